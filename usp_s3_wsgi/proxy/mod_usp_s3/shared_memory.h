/*
 * Memory that all processes of httpd share, mod_wsgi's daemons too. It is made by the parent before they are forked, and kept
 * over restarts, so that what children of the former configuration still finish is recorded as well.
 *
 * Any process may be killed at any moment, so no process waits long for another one. Numbers are added atomically. An entry is
 * claimed by its state, and never used if its process was killed before it was ready. A lock has the number of the process that
 * holds it: if that process has ended, the parent unlocks it.
 */

#ifndef USP_S3_SHARED_MEMORY_H
#define USP_S3_SHARED_MEMORY_H

#include "metrics.h"

/* More buckets than these are counted together, in a last entry without a name. */
#define USP_S3_MAX_BUCKETS 256
/* AWS identities, with their roles; those beyond are not recorded. */
#define USP_S3_MAX_IDENTITIES 64
/* Requests of the gateway at the same time, in all children. The memory of slots that are never used is not allocated. */
#define USP_S3_SLOTS 4096
/* Processes at the same time; those beyond are not listed. */
#define USP_S3_MAX_PROCESSES 1024
/* Bytes of the list of configured buckets (configtest/configured_buckets.py). */
#define USP_S3_CONFIGURATION_SIZE (8 * 1024 * 1024)

enum { USP_S3_IS_FREE, USP_S3_IS_CLAIMED, USP_S3_IS_READY, USP_S3_IS_ABANDONED };

/* The last failed exchanges of a bucket. */
typedef struct {
    pid_t lock; /* the process that reads or changes them, or 0 */
    unsigned last_number;
    struct {
        unsigned number; /* 0: none */
        unsigned kind;   /* failures for the same reason have the same */
        unsigned way;
        unsigned length;
        char bytes[USP_S3_FAILURE_SIZE];
    } failures[USP_S3_MAX_FAILURES];
} usp_s3_failure_list;

typedef struct {
    apr_uint64_t started_at; /* unix time */
    unsigned generation;     /* of the configuration, from 1: that of the last start or restart */
    usp_s3_bucket_metrics buckets[USP_S3_MAX_BUCKETS + 1];
    usp_s3_identity_metrics identities[USP_S3_MAX_IDENTITIES];
    usp_s3_process processes[USP_S3_MAX_PROCESSES];
    apr_uint64_t slot_nonces[USP_S3_SLOTS]; /* 0: the slot is free */
    pid_t slot_owners[USP_S3_SLOTS];        /* the child of httpd that handles the request */
    pid_t slot_locks[USP_S3_SLOTS];         /* the process that reads or changes the totals, or 0 */
    usp_s3_totals slot_totals[USP_S3_SLOTS];
    usp_s3_failure_list failures[USP_S3_MAX_BUCKETS + 1];
    unsigned configuration_generation;
    pid_t configuration_lock;       /* the process that writes the list, or 0 */
    unsigned configuration_version; /* odd while the list is written */
    unsigned configuration_length;
    char configuration[USP_S3_CONFIGURATION_SIZE];
} usp_s3_shared_memory;

/* The generation of this process' configuration. */
extern unsigned usp_s3_generation;

/* NULL if exchanges are not recorded. Set before mod_wsgi forks its daemons. */
extern usp_s3_shared_memory *usp_s3_memory;

/*
 * Claim a free entry, or wait until it is ready. Returns USP_S3_IS_CLAIMED if the caller must fill it, USP_S3_IS_READY if it is
 * ready, and USP_S3_IS_ABANDONED if the process that has claimed it seems to have been killed: then it is never used.
 */
unsigned usp_s3_claim(unsigned *state);

/* Publish an entry that this process has claimed and filled. Returns whether nobody has abandoned it meanwhile. */
int usp_s3_make_ready(unsigned *state);

int usp_s3_is_ready(const unsigned *state);

/* Whether a text is equal to what apr_cpystrn has stored of it. */
int usp_s3_is_equal(const char *stored, const char *text, apr_size_t size);

void usp_s3_add(apr_uint64_t *number, apr_uint64_t amount);

/* Returns whether it was locked. Another process that has locked it is not waited for long: it may have been killed. */
int usp_s3_lock(pid_t *lock);
void usp_s3_unlock(pid_t *lock);
/* Unlock it if the process that has locked it has ended. */
void usp_s3_unlock_if_abandoned(pid_t *lock);

/* Whether a process, if it is one (not 0), has ended. */
int usp_s3_has_ended(pid_t process);

/* The number of a bucket's entry, which is made if there is none; USP_S3_MAX_BUCKETS if there is no place. */
int usp_s3_find_bucket(const char *host, const char *bucket);

/* Called by the parent from time to time: what processes held that were killed is free again. */
void usp_s3_free_slots_of_killed_processes(void);
void usp_s3_unlock_failures_of_killed_processes(void);

/* Called by a new child: its process id may be that of one that was killed. */
void usp_s3_free_slots_of_namesake(void);
void usp_s3_unlock_failures_of_namesake(void);

#endif
