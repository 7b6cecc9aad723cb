/*
 * The signature of AWS Signature Version 4, by OpenSSL. There are no types of httpd here: tests compile signature.c alone.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
 */

#ifndef USP_S3_SIGNATURE_H
#define USP_S3_SIGNATURE_H

#ifdef USP_S3_WITHOUT_OPENSSL
#define USP_S3_USES_OPENSSL 0
#else
#define USP_S3_USES_OPENSSL 1
#endif

#define USP_S3_SIGNING_KEY_SIZE 32
/* Lowercase hexadecimal digits. */
#define USP_S3_SIGNATURE_LENGTH 64

/* What is the same for requests with other methods and paths. */
typedef struct {
    const char *canonical_request; /* what follows the path in the canonical request */
    const char *string_to_sign;    /* the string to sign up to the hash of the canonical request */
    unsigned char signing_key[USP_S3_SIGNING_KEY_SIZE];
} usp_s3_signature_parts;

/*
 * Fetch SHA-256 and HMAC from OpenSSL, once per process and before other threads sign. Returns whether that was possible; not
 * if the module was compiled without OpenSSL.
 */
int usp_s3_load_algorithms(void);

/* Free them; nothing can be signed then. */
void usp_s3_free_algorithms(void);

/* Whether they are loaded. */
int usp_s3_has_algorithms(void);

/* Sign a method and a path, which is percent-encoded once. Returns whether OpenSSL has done so: then signature is set. */
int usp_s3_compute_signature(const usp_s3_signature_parts *parts, const char *method, const char *path,
                             char signature[USP_S3_SIGNATURE_LENGTH + 1]);

#endif
