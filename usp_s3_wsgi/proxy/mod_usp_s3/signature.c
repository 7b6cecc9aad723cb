/*
 * The signature of AWS Signature Version 4, by OpenSSL 3. Without its headers setup.py defines USP_S3_WITHOUT_OPENSSL: Python
 * then signs each request.
 */

#include "signature.h"

#ifdef USP_S3_WITHOUT_OPENSSL

int usp_s3_load_algorithms(void)
{
    return 0;
}

void usp_s3_free_algorithms(void)
{
}

int usp_s3_has_algorithms(void)
{
    return 0;
}

int usp_s3_compute_signature(const usp_s3_signature_parts *parts, const char *method, const char *path,
                             char signature[USP_S3_SIGNATURE_LENGTH + 1])
{
    (void)parts;
    (void)method;
    (void)path;
    (void)signature;
    return 0;
}

#else

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define DIGEST_SIZE 32

/*
 * OpenSSL searches its providers at each fetch, so both are fetched once. After that threads only read them: each signature has
 * its own contexts. hmac has a key of zeros; a copy of it that gets the signing key is cheaper than a new context.
 */
static EVP_MD *sha256;
static EVP_MAC_CTX *hmac;

int usp_s3_load_algorithms(void)
{
    static const unsigned char key[USP_S3_SIGNING_KEY_SIZE];
    static char digest[] = "SHA256"; /* not const for OpenSSL, which does not write it */
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);

    sha256 = EVP_MD_fetch(NULL, digest, NULL);
    hmac = algorithm ? EVP_MAC_CTX_new(algorithm) : NULL;
    EVP_MAC_free(algorithm); /* the context has its own reference */
    if (sha256 && hmac && EVP_MAC_init(hmac, key, sizeof(key), parameters))
        return 1;
    usp_s3_free_algorithms();
    ERR_clear_error(); /* this thread's next user of OpenSSL would take it for its own */
    return 0;
}

void usp_s3_free_algorithms(void)
{
    EVP_MD_free(sha256);
    EVP_MAC_CTX_free(hmac);
    sha256 = NULL;
    hmac = NULL;
}

int usp_s3_has_algorithms(void)
{
    return hmac != NULL;
}

static void to_hex(const unsigned char digest[DIGEST_SIZE], char hex[2 * DIGEST_SIZE + 1])
{
    static const char digits[] = "0123456789abcdef";
    int i;

    for (i = 0; i < DIGEST_SIZE; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * DIGEST_SIZE] = '\0';
}

static int hash_canonical_request(const usp_s3_signature_parts *parts, const char *method, const char *path,
                                  unsigned char digest[DIGEST_SIZE])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int is_done = context && EVP_DigestInit_ex2(context, sha256, NULL) && EVP_DigestUpdate(context, method, strlen(method))
                  && EVP_DigestUpdate(context, "\n", 1) && EVP_DigestUpdate(context, path, strlen(path))
                  && EVP_DigestUpdate(context, parts->canonical_request, strlen(parts->canonical_request))
                  && EVP_DigestFinal_ex(context, digest, NULL);

    EVP_MD_CTX_free(context);
    return is_done;
}

static int sign_string(const usp_s3_signature_parts *parts, const char hash[2 * DIGEST_SIZE + 1],
                       unsigned char code[DIGEST_SIZE])
{
    EVP_MAC_CTX *context = EVP_MAC_CTX_dup(hmac);
    size_t size;
    int is_done = context && EVP_MAC_init(context, parts->signing_key, sizeof(parts->signing_key), NULL)
                  && EVP_MAC_update(context, (const unsigned char *)parts->string_to_sign, strlen(parts->string_to_sign))
                  && EVP_MAC_update(context, (const unsigned char *)hash, 2 * DIGEST_SIZE)
                  && EVP_MAC_final(context, code, &size, DIGEST_SIZE);

    EVP_MAC_CTX_free(context);
    return is_done;
}

int usp_s3_compute_signature(const usp_s3_signature_parts *parts, const char *method, const char *path,
                             char signature[USP_S3_SIGNATURE_LENGTH + 1])
{
    unsigned char digest[DIGEST_SIZE];
    char hash[2 * DIGEST_SIZE + 1];

    if (!usp_s3_has_algorithms())
        return 0;
    if (hash_canonical_request(parts, method, path, digest)) {
        to_hex(digest, hash);
        if (sign_string(parts, hash, digest)) {
            to_hex(digest, signature);
            return 1;
        }
    }
    ERR_clear_error();
    return 0;
}

#endif
