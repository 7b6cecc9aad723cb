/* SHA-256 and its HMAC: https://doi.org/10.6028/NIST.FIPS.180-4 and https://www.rfc-editor.org/rfc/rfc2104. */

#ifndef USP_S3_SHA256_H
#define USP_S3_SHA256_H

#include <stddef.h>

#define USP_S3_SHA256_SIZE 32

/* The SHA-256 digest of a text. */
void usp_s3_sha256(const void *text, size_t length, unsigned char digest[USP_S3_SHA256_SIZE]);

/* The HMAC-SHA-256 of a text. The key has the size of a digest, as those of Signature Version 4 have. */
void usp_s3_hmac_sha256(const unsigned char key[USP_S3_SHA256_SIZE], const void *text, size_t length,
                        unsigned char code[USP_S3_SHA256_SIZE]);

#endif
