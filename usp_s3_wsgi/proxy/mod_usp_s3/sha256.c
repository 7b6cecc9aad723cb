/*
 * SHA-256 and HMAC-SHA-256. OpenSSL's are not used, as its headers are not installed with those of httpd.
 * tests/httpd/test_sha256.py compares the results with hashlib's.
 */

#include "sha256.h"

#include <stdint.h>
#include <string.h>

#define BLOCK 64
#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static void add_block(uint32_t state[8], const unsigned char block[BLOCK])
{
    uint32_t w[64], v[8];
    int i;

    for (i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8
               | block[4 * i + 3];
    for (; i < 64; i++)
        w[i] = w[i - 16] + (ROTATE(w[i - 15], 7) ^ ROTATE(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7]
               + (ROTATE(w[i - 2], 17) ^ ROTATE(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(v, state, sizeof(v));
    for (i = 0; i < 64; i++) {
        uint32_t first = v[7] + (ROTATE(v[4], 6) ^ ROTATE(v[4], 11) ^ ROTATE(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6]))
                         + round_constants[i] + w[i];
        uint32_t second = (ROTATE(v[0], 2) ^ ROTATE(v[0], 13) ^ ROTATE(v[0], 22))
                          + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

        memmove(v + 1, v, 7 * sizeof(*v));
        v[4] += first;
        v[0] = first + second;
    }
    for (i = 0; i < 8; i++)
        state[i] += v[i];
}

/* The digest of a text, with one block before it if head is not NULL. */
static void digest_after(const unsigned char *head, const unsigned char *text, size_t length,
                         unsigned char digest[USP_S3_SHA256_SIZE])
{
    uint64_t bits = ((uint64_t)length + (head ? BLOCK : 0)) * 8;
    unsigned char end[2 * BLOCK] = {0};
    uint32_t state[8];
    size_t rest;
    int i;

    memcpy(state, initial, sizeof(state));
    if (head)
        add_block(state, head);
    for (; length >= BLOCK; text += BLOCK, length -= BLOCK)
        add_block(state, text);
    memcpy(end, text, length);
    end[length] = 0x80;
    rest = length < BLOCK - 8 ? BLOCK : 2 * BLOCK;
    for (i = 0; i < 8; i++)
        end[rest - 1 - i] = (unsigned char)(bits >> (8 * i));
    add_block(state, end);
    if (rest > BLOCK)
        add_block(state, end + BLOCK);
    for (i = 0; i < USP_S3_SHA256_SIZE; i++)
        digest[i] = (unsigned char)(state[i / 4] >> (24 - i % 4 * 8));
}

void usp_s3_sha256(const void *text, size_t length, unsigned char digest[USP_S3_SHA256_SIZE])
{
    digest_after(NULL, text, length, digest);
}

void usp_s3_hmac_sha256(const unsigned char key[USP_S3_SHA256_SIZE], const void *text, size_t length,
                        unsigned char code[USP_S3_SHA256_SIZE])
{
    unsigned char inner[BLOCK], outer[BLOCK], digest[USP_S3_SHA256_SIZE];
    int i;

    for (i = 0; i < BLOCK; i++) {
        unsigned char byte = i < USP_S3_SHA256_SIZE ? key[i] : 0;

        inner[i] = byte ^ 0x36;
        outer[i] = byte ^ 0x5c;
    }
    digest_after(inner, text, length, digest);
    digest_after(outer, digest, sizeof(digest), code);
}
