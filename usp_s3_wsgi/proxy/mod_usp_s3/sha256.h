/* SHA-256 and its HMAC: https://doi.org/10.6028/NIST.FIPS.180-4 and https://www.rfc-editor.org/rfc/rfc2104. */

#ifndef USP_S3_SHA256_H
#define USP_S3_SHA256_H

#include <stddef.h>

#define USP_S3_SHA256_SIZE 32

/* The digest of a text. */
void usp_s3_sha256(const void *text, size_t length, unsigned char digest[USP_S3_SHA256_SIZE]);

/* The authentication code of a text, with a key of that same size, as those of Signature v4 are. */
void usp_s3_hmac_sha256(const unsigned char key[USP_S3_SHA256_SIZE], const void *text, size_t length,
                        unsigned char code[USP_S3_SHA256_SIZE]);

#endif
