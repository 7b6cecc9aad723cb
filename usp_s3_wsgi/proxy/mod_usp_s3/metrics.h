/*
 * What is recorded of each exchange with S3, for the access log and for metrics; off without "UspS3Metrics On".
 *
 * An exchange is the request for an object to one bucket, with its retries and resumes. A client's request has several if it
 * has subrequests, or if a fallback bucket or another member of a balancer is used. Each exchange is recorded once, when it
 * ends, by the process that has made it: in shared memory for metrics, and in the totals of the client's request for the access
 * log.
 */

#ifndef USP_S3_METRICS_H
#define USP_S3_METRICS_H

#include "httpd.h"

typedef enum { USP_S3_GATEWAY, USP_S3_PROXY, USP_S3_WAYS } usp_s3_way;

/* The counters of a bucket, with the names that Python knows them by. */
#define USP_S3_COUNTER_LIST(X) \
    X(ATTEMPTS, "attempts") \
    X(RESUMES, "resumes") \
    X(CLOCK_CORRECTIONS, "clock_corrections") \
    X(REGION_CORRECTIONS, "region_corrections") \
    X(CREDENTIAL_CORRECTIONS, "credential_corrections") \
    X(FALLBACKS, "fallbacks") \
    X(BODY_BYTES, "body_bytes") \
    X(NEW_CONNECTIONS, "new_connections") \
    X(REUSED_CONNECTIONS, "reused_connections")

#define USP_S3_COUNTER_INDEX(index, name) USP_S3_##index,
enum { USP_S3_COUNTER_LIST(USP_S3_COUNTER_INDEX) USP_S3_COUNTERS };

/* The sizes of texts in shared memory, which are cut: a host name has at most 253 bytes, and a port. */
#define USP_S3_HOST_SIZE 262
#define USP_S3_BUCKET_SIZE 128
#define USP_S3_CODE_SIZE 48
#define USP_S3_ERROR_SIZE 12
#define USP_S3_REQUEST_ID_SIZE 160

/* What is known of an exchange when it has ended. Texts are never NULL. Times are in microseconds. */
typedef struct {
    usp_s3_way way;
    const char *host, *bucket;
    int s3_status;             /* of the last response; 0 if there was none */
    const char *s3_code;       /* S3's error code, "" if there is none */
    const char *request_id;    /* S3's id of the last request, in words for its support */
    const char *error;         /* the code of the failure, as in the error log: "USPS3nnnn", "" for a success */
    apr_uint64_t counters[USP_S3_COUNTERS];
    int has_first_byte;        /* there was a response, so that the next time is known */
    apr_uint64_t first_byte;   /* since the exchange began, until the header of the response that is forwarded */
    apr_uint64_t duration;     /* since the exchange began */
} usp_s3_exchange;

/* What is logged of one exchange. */
typedef struct {
    usp_s3_way way;
    int s3_status;
    char host[USP_S3_HOST_SIZE], bucket[USP_S3_BUCKET_SIZE], s3_code[USP_S3_CODE_SIZE], request_id[USP_S3_REQUEST_ID_SIZE];
    char error[USP_S3_ERROR_SIZE];
} usp_s3_logged_exchange;

/* The sum of the exchanges of a client's request. */
typedef struct {
    usp_s3_logged_exchange last; /* the last exchange that failed, if one has failed, else the last one */
    apr_uint32_t exchanges;
    apr_uint64_t counters[USP_S3_COUNTERS];
    apr_uint64_t first_byte; /* of the first exchange that has one */
    apr_uint64_t duration;
} usp_s3_totals;

/* Microseconds of a clock that is never set. */
apr_uint64_t usp_s3_monotonic_time(void);

/* ---------------------------------------------------------------- shared_memory.c */

void usp_s3_register_shared_memory(void);

/* Whether exchanges are recorded. */
int usp_s3_is_recording(void);

/* ---------------------------------------------------------------- shared_metrics.c */

/* Record an exchange that has ended in shared memory. Never fails: an exchange that cannot be recorded is dropped. */
void usp_s3_record_exchange(const usp_s3_exchange *exchange);

/* The upper bounds of the histograms' buckets in microseconds; one more bucket has no bound. */
#define USP_S3_TIME_BOUNDS 16
extern const apr_uint64_t usp_s3_time_bounds[USP_S3_TIME_BOUNDS];

/* Exchanges with the same result: the class of S3's status (0 for no response), S3's code, and the code of the failure. */
typedef struct {
    unsigned state;
    int status_class;
    char s3_code[USP_S3_CODE_SIZE], error[USP_S3_ERROR_SIZE];
    apr_uint64_t count;
} usp_s3_outcome;

typedef struct {
    apr_uint64_t counts[USP_S3_TIME_BOUNDS + 1];
    apr_uint64_t sum;
} usp_s3_histogram;

#define USP_S3_MAX_OUTCOMES 32
/* Entries that are kept for outcomes whose S3 code is OTHER_CODE, so that no failure is hidden by codes that S3 makes up. */
#define USP_S3_RESERVED_OUTCOMES 8
#define USP_S3_OTHER_CODE "(other)"

/* Whose fault it is that an exchange has failed. */
typedef enum { USP_S3_NO_FAULT, USP_S3_FAULT, USP_S3_DENIED, USP_S3_FAULT_OF_CLIENT, USP_S3_FAULTS } usp_s3_fault;

/* That of a code. */
usp_s3_fault usp_s3_fault_of(const char *error);

/* What is known of each minute: exchanges by fault, some of the counters, and first bytes with their sum. */
enum {
    USP_S3_MINUTE_COUNTERS = USP_S3_FAULTS,
    USP_S3_MINUTE_FIRST_BYTES = USP_S3_MINUTE_COUNTERS + 4,
    USP_S3_MINUTE_FIRST_BYTE_SUM,
    USP_S3_MINUTE_VALUES
};
#define USP_S3_HOUR 60
#define USP_S3_MINUTES 64
#define USP_S3_MINUTE_IS_CLAIMED ((apr_uint64_t)1 << 63)

/* The counters at the beginning of a minute: its number by the monotonic clock, which is never set, from 1. */
typedef struct {
    apr_uint64_t number, values[USP_S3_MINUTE_VALUES];
} usp_s3_minute;

/* The metrics of a bucket for one way in. The last outcome counts all that have no entry of their own. */
typedef struct {
    usp_s3_outcome outcomes[USP_S3_MAX_OUTCOMES + 1];
    apr_uint64_t counters[USP_S3_COUNTERS], failures[USP_S3_FAULTS];
    usp_s3_histogram first_byte, duration;
    usp_s3_minute minutes[USP_S3_MINUTES];
} usp_s3_way_metrics;

/* values[0] is the minute of 59 minutes ago, values[59] this one. */
void usp_s3_get_last_hour(const usp_s3_way_metrics *metrics, apr_uint64_t values[USP_S3_HOUR][USP_S3_MINUTE_VALUES]);

/* The metrics of a bucket. */
typedef struct {
    unsigned state;
    unsigned hash;
    char host[USP_S3_HOST_SIZE], bucket[USP_S3_BUCKET_SIZE];
    usp_s3_way_metrics ways[USP_S3_WAYS];
} usp_s3_bucket_metrics;

/*
 * Those of a bucket by number, from 0. NULL after the last one, which is that of all buckets without an entry of their own:
 * *is_overflow is true. Other processes change them at any time.
 */
const usp_s3_bucket_metrics *usp_s3_get_bucket_metrics(int number, int *is_overflow);

/* The entry of a number as usp_s3_get_bucket_number returns it, NULL if there is none. */
const usp_s3_bucket_metrics *usp_s3_get_bucket_entry(int number);
int usp_s3_get_bucket_number(const usp_s3_bucket_metrics *entry);

/* Whether an outcome has an entry. */
int usp_s3_is_outcome_used(const usp_s3_outcome *outcome);

#define USP_S3_IDENTITY_SIZE 256

/* The temporary credentials of an identity. */
typedef struct {
    unsigned state;
    char name[USP_S3_IDENTITY_SIZE];
    apr_uint64_t expires; /* unix time of those that were obtained last; 0: no known expiration, or there were none yet */
    apr_uint64_t successes, failures;
    apr_uint64_t refreshed_at, failed_at; /* unix times of the last ones */
    unsigned is_failing;                  /* the last refresh, by any process, has failed */
    unsigned generation;                  /* of the process that was successful last: processes share no credentials */
} usp_s3_identity_metrics;

/* Record that a process has refreshed credentials, or has failed to. */
void usp_s3_record_refresh(const char *identity, apr_uint64_t expires, int is_success);

/* As usp_s3_get_bucket_metrics. */
const usp_s3_identity_metrics *usp_s3_get_identity_metrics(int number);

/* ---------------------------------------------------------------- request_slots.c */

void usp_s3_add_to_totals(usp_s3_totals *totals, const usp_s3_exchange *exchange);

/*
 * A slot in shared memory, in which a process of mod_wsgi's daemon mode leaves the totals of the gateway's request. The token
 * of this size, without a NUL, names it; it is all zeros if exchanges are not recorded, or if no slot is free.
 */
#define USP_S3_TOKEN_SIZE 24
void usp_s3_open_slot(char *token);
/* Take the totals out of a slot, and free it. Returns whether there was an exchange. */
int usp_s3_close_slot(const char *token, usp_s3_totals *totals);
/* The number of open slots: requests that the gateway handles now. */
int usp_s3_count_open_slots(void);

/* Add an exchange to a slot, unless it was freed meanwhile. */
void usp_s3_add_to_slot(const char *token, const usp_s3_exchange *exchange);

/* ---------------------------------------------------------------- processes.c */

typedef enum { USP_S3_HTTPD_CHILD, USP_S3_DAEMON } usp_s3_process_kind;

/* A process that can serve requests. */
typedef struct {
    pid_t pid; /* 0: a free entry */
    usp_s3_process_kind kind;
    unsigned generation;     /* of its configuration */
    apr_uint64_t started_at; /* unix time */
} usp_s3_process;

/* Called by the parent at a start or restart. */
void usp_s3_begin_generation(void);

/* Called by a process, once or more often. */
void usp_s3_register_process(usp_s3_process_kind kind);

/*
 * Find the next process that has not ended, from *index, which is 0 at the first call. Returns whether there is one.
 * *is_current: of the configuration of the last restart.
 */
int usp_s3_next_process(int *index, usp_s3_process *process, int *is_current);

/* Whether something was recorded by a process of the configuration of the last restart. */
int usp_s3_is_current_generation(unsigned generation);

/* Unix time of the start of httpd. */
apr_uint64_t usp_s3_started_at(void);

/* ---------------------------------------------------------------- failures.c */

/* How many failed exchanges of a bucket are kept, and the bytes of each. */
#define USP_S3_MAX_FAILURES 8
#define USP_S3_FAILURE_SIZE 8192

/*
 * Keep a failed exchange of a bucket. The oldest of the reason with the most failures makes place, so that a frequent one does
 * not hide the others. kind: a number of the reason. Never fails: what cannot be kept is dropped.
 */
void usp_s3_record_failure(const char *host, const char *bucket, usp_s3_way way, unsigned kind, const char *bytes,
                           apr_size_t length);

/*
 * Call a function for each failure that is kept: number identifies it in its bucket. It returns whether to go on. bucket: NULL
 * for those of all buckets without an entry of their own.
 */
typedef int usp_s3_failure_callback(void *context, const char *host, const char *bucket, usp_s3_way way, int bucket_number,
                                    unsigned number, const char *bytes, apr_size_t length);
void usp_s3_for_each_failure(usp_s3_failure_callback *callback, void *context);

/* ---------------------------------------------------------------- configured_buckets.c */

/*
 * Keep the list of configured buckets, in the form of configtest/configured_buckets.py; empty: it is not known. That of an earlier
 * configuration than the one that is kept is dropped.
 */
void usp_s3_store_configured_buckets(const char *text);

/* The list, allocated by malloc, or NULL if there is none. */
char *usp_s3_copy_configured_buckets(void);

/* ---------------------------------------------------------------- access_log.c */

void usp_s3_register_access_log(void);

/* Record an exchange, and add it to the totals of the client's request. */
void usp_s3_record_for_request(request_rec *r, const usp_s3_exchange *exchange);

/* The token for the gateway's exchanges of a request: a slot is opened at the first call. */
const char *usp_s3_get_slot_token(request_rec *r);

/* The gateway has handled a request: add the totals of its slot to those of the client's request. */
void usp_s3_collect_slot(request_rec *r);

#endif
