/*
 * The codes of the lines that this module itself writes to the error log: "USPS30701: usp_s3_wsgi: ..." They are documented in
 * docs/errors.md. Lines whose text comes from Python have Python's codes.
 */

#ifndef USP_S3_LOG_CODES_H
#define USP_S3_LOG_CODES_H

/* The Python of this process has not registered its callbacks: no request can be signed. */
#define USP_S3_CODE_NO_SIGNER "USPS30701"

/* A Python callback has raised an exception, or returned an unexpected result. */
#define USP_S3_CODE_CALLBACK_FAILED "USPS30702"

/* The operating system has no random bytes for the proof: httpd does not start. */
#define USP_S3_CODE_NO_RANDOM_BYTES "USPS30703"

/* The process that checks the settings could not be run, failed, or timed out. */
#define USP_S3_CODE_NOT_CHECKED "USPS30704"

/* OpenSSL has no SHA-256 or HMAC: Python signs each request. */
#define USP_S3_CODE_NO_ALGORITHMS "USPS30706"

/* There is no shared memory for UspS3Metrics. */
#define USP_S3_CODE_NO_SHARED_MEMORY "USPS30707"

/* The beginning of a line, before its text; as APLOGNO. */
#define USP_S3_LOGNO(code) code ": usp_s3_wsgi: "

#endif
