/*
 * Metrics in memory that all processes of httpd share, mod_wsgi's daemons too. It is made by the parent before they are forked,
 * and kept over restarts, so that what children of the former configuration still finish is counted as well.
 *
 * Any process may be killed at any moment, so no process waits long for another one. Numbers are added atomically. An entry is
 * claimed by its state, and never used if its process was killed before it was ready. The totals of a request have a lock, with
 * the number of the process that holds it: if that process has ended, the parent frees the slot.
 */

#include "log_codes.h"
#include "metrics.h"
#include "mod_usp_s3.h"

#include "mpm_common.h"
#include "apr_shm.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/random.h>
#include <time.h>

/* More buckets than these are counted together, in a last entry without a name. */
#define MAX_BUCKETS 256
/* AWS identities, with their roles; those beyond are not recorded. */
#define MAX_IDENTITIES 64
/* Requests of the gateway at the same time, in all children. The memory of slots that are never used is not allocated. */
#define SLOTS 4096
/* Hexadecimal digits of a token for the slot; the others are a random number, which no page that sets variables can guess. */
#define SLOT_DIGITS 8
/* How often a process looks again at an entry that another process is making: that takes less than a microsecond. */
#define MAX_WAITS 1000
/* Microseconds between two searches for slots of children that were killed. */
#define SLOT_CHECK_INTERVAL 5000000
/*
 * The name of the memory in httpd's process pool. It is changed with each change of the memory's layout, because a restart may
 * load another version of this module.
 */
#define LAYOUT "usp_s3_wsgi metrics, layout 2"

enum { IS_FREE, IS_CLAIMED, IS_READY, IS_ABANDONED };

typedef struct {
    usp_s3_bucket_metrics buckets[MAX_BUCKETS + 1];
    usp_s3_identity_metrics identities[MAX_IDENTITIES];
    apr_uint64_t slot_nonces[SLOTS]; /* 0: the slot is free */
    pid_t slot_owners[SLOTS];        /* the child of httpd that handles the request */
    pid_t slot_locks[SLOTS];         /* the process that reads or changes the totals, or 0 */
    usp_s3_totals slot_totals[SLOTS];
} shared_memory;

/* 1 ms to 5 minutes. */
const apr_uint64_t usp_s3_time_bounds[USP_S3_TIME_BOUNDS] = {
    1000,   2500,    5000,    10000,   25000,    50000,    100000,   250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000,
};

/* NULL if exchanges are not recorded. Set before mod_wsgi forks its daemons. */
static shared_memory *memory;

apr_uint64_t usp_s3_monotonic_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (apr_uint64_t)now.tv_sec * 1000000 + (apr_uint64_t)now.tv_nsec / 1000;
}

int usp_s3_is_recording(void)
{
    return memory != NULL;
}

static void add(apr_uint64_t *number, apr_uint64_t amount)
{
    if (amount)
        __atomic_fetch_add(number, amount, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------- entries */

/* Change a state if it is still the expected one; returns whether it was. */
static int change_state(unsigned *state, unsigned expected, unsigned wanted)
{
    return __atomic_compare_exchange_n(state, &expected, wanted, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/*
 * Claim a free entry, or wait until it is ready. Returns IS_CLAIMED if the caller must fill it, IS_READY if it is ready, and
 * IS_ABANDONED if the process that has claimed it seems to have been killed: then it is never used.
 */
static unsigned claim(unsigned *state)
{
    int waits;

    for (waits = 0; waits < MAX_WAITS; waits++) {
        unsigned found = __atomic_load_n(state, __ATOMIC_ACQUIRE);

        if (found == IS_READY || found == IS_ABANDONED)
            return found;
        if (found == IS_FREE && change_state(state, IS_FREE, IS_CLAIMED))
            return IS_CLAIMED;
        sched_yield();
    }
    change_state(state, IS_CLAIMED, IS_ABANDONED);
    return __atomic_load_n(state, __ATOMIC_ACQUIRE);
}

/* Publish an entry that this process has claimed and filled. Returns whether nobody has abandoned it meanwhile. */
static int make_ready(unsigned *state)
{
    return change_state(state, IS_CLAIMED, IS_READY);
}

/* FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
static unsigned hash_text(unsigned hash, const char *text, apr_size_t size)
{
    apr_size_t i;

    for (i = 0; i + 1 < size && text[i]; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash;
}

/* Whether a text is equal to what apr_cpystrn has stored of it. */
static int is_equal(const char *stored, const char *text, apr_size_t size)
{
    return strncmp(stored, text, size - 1) == 0;
}

static usp_s3_bucket_metrics *find_bucket(const char *host, const char *bucket)
{
    unsigned hash = hash_text(hash_text(2166136261u, host, USP_S3_HOST_SIZE) * 16777619u, bucket, USP_S3_BUCKET_SIZE);
    int i;

    for (i = 0; i < MAX_BUCKETS; i++) {
        usp_s3_bucket_metrics *entry = &memory->buckets[(hash + (unsigned)i) % MAX_BUCKETS];

        switch (claim(&entry->state)) {
        case IS_CLAIMED:
            entry->hash = hash;
            apr_cpystrn(entry->host, host, sizeof(entry->host));
            apr_cpystrn(entry->bucket, bucket, sizeof(entry->bucket));
            if (make_ready(&entry->state))
                return entry;
            break;
        case IS_READY:
            if (entry->hash == hash && is_equal(entry->host, host, sizeof(entry->host))
                && is_equal(entry->bucket, bucket, sizeof(entry->bucket)))
                return entry;
            break;
        default:
            break;
        }
    }
    return &memory->buckets[MAX_BUCKETS];
}

/* Find an outcome among the first ones, or make one there; NULL if there is no place. */
static usp_s3_outcome *find_outcome(usp_s3_way_metrics *metrics, int limit, int status_class, const char *s3_code,
                                    const char *error)
{
    int i;

    for (i = 0; i < limit; i++) {
        usp_s3_outcome *outcome = &metrics->outcomes[i];
        unsigned state = claim(&outcome->state);

        if (state == IS_CLAIMED) {
            outcome->status_class = status_class;
            apr_cpystrn(outcome->s3_code, s3_code, sizeof(outcome->s3_code));
            apr_cpystrn(outcome->error, error, sizeof(outcome->error));
            if (make_ready(&outcome->state))
                return outcome;
        }
        else if (state == IS_READY && outcome->status_class == status_class
                 && is_equal(outcome->s3_code, s3_code, sizeof(outcome->s3_code))
                 && is_equal(outcome->error, error, sizeof(outcome->error)))
            return outcome;
    }
    return NULL;
}

static void count_outcome(usp_s3_way_metrics *metrics, int status_class, const char *s3_code, const char *error)
{
    int limit = USP_S3_MAX_OUTCOMES - USP_S3_RESERVED_OUTCOMES;
    usp_s3_outcome *outcome = find_outcome(metrics, limit, status_class, s3_code, error);

    if (!outcome)
        outcome = find_outcome(metrics, USP_S3_MAX_OUTCOMES, status_class, *s3_code ? USP_S3_OTHER_CODE : "", error);
    add(outcome ? &outcome->count : &metrics->outcomes[USP_S3_MAX_OUTCOMES].count, 1);
}

int usp_s3_is_outcome_used(const usp_s3_outcome *outcome)
{
    return __atomic_load_n(&outcome->state, __ATOMIC_ACQUIRE) == IS_READY;
}

static void observe(usp_s3_histogram *histogram, apr_uint64_t time)
{
    int i = 0;

    while (i < USP_S3_TIME_BOUNDS && time > usp_s3_time_bounds[i])
        i++;
    add(&histogram->counts[i], 1);
    add(&histogram->sum, time);
}

void usp_s3_record_exchange(const usp_s3_exchange *exchange)
{
    usp_s3_way_metrics *metrics;
    int i;

    if (!memory)
        return;
    metrics = &find_bucket(exchange->host, exchange->bucket)->ways[exchange->way];
    count_outcome(metrics, exchange->s3_status / 100, exchange->s3_code, exchange->error);
    for (i = 0; i < USP_S3_COUNTERS; i++)
        add(&metrics->counters[i], exchange->counters[i]);
    if (exchange->has_first_byte)
        observe(&metrics->first_byte, exchange->first_byte);
    observe(&metrics->duration, exchange->duration);
}

const usp_s3_bucket_metrics *usp_s3_get_bucket_metrics(int number, int *is_overflow)
{
    int i;

    for (i = 0; memory && i <= MAX_BUCKETS; i++) {
        *is_overflow = i == MAX_BUCKETS;
        if ((*is_overflow || __atomic_load_n(&memory->buckets[i].state, __ATOMIC_ACQUIRE) == IS_READY) && !number--)
            return &memory->buckets[i];
    }
    return NULL;
}

void usp_s3_record_refresh(const char *identity, apr_uint64_t expires, int is_success)
{
    int i;

    for (i = 0; memory && i < MAX_IDENTITIES; i++) {
        usp_s3_identity_metrics *entry = &memory->identities[i];
        unsigned state = claim(&entry->state);

        if (state == IS_CLAIMED) {
            apr_cpystrn(entry->name, identity, sizeof(entry->name));
            if (!make_ready(&entry->state))
                continue;
        }
        else if (state != IS_READY || !is_equal(entry->name, identity, sizeof(entry->name)))
            continue;
        add(is_success ? &entry->successes : &entry->failures, 1);
        if (is_success)
            __atomic_store_n(&entry->expires, expires, __ATOMIC_RELAXED);
        return;
    }
}

const usp_s3_identity_metrics *usp_s3_get_identity_metrics(int number)
{
    int i;

    for (i = 0; memory && i < MAX_IDENTITIES; i++) {
        if (__atomic_load_n(&memory->identities[i].state, __ATOMIC_ACQUIRE) == IS_READY && !number--)
            return &memory->identities[i];
    }
    return NULL;
}

/* ---------------------------------------------------------------- the totals of a request */

void usp_s3_add_to_totals(usp_s3_totals *totals, const usp_s3_exchange *exchange)
{
    usp_s3_logged_exchange *last = &totals->last;
    int i;

    totals->exchanges++;
    if (*exchange->error || !*last->error) {
        last->way = exchange->way;
        last->s3_status = exchange->s3_status;
        apr_cpystrn(last->host, exchange->host, sizeof(last->host));
        apr_cpystrn(last->bucket, exchange->bucket, sizeof(last->bucket));
        apr_cpystrn(last->s3_code, exchange->s3_code, sizeof(last->s3_code));
        apr_cpystrn(last->request_id, exchange->request_id, sizeof(last->request_id));
        apr_cpystrn(last->error, exchange->error, sizeof(last->error));
    }
    for (i = 0; i < USP_S3_COUNTERS; i++)
        totals->counters[i] += exchange->counters[i];
    if (!totals->first_byte)
        totals->first_byte = exchange->first_byte;
    totals->duration += exchange->duration;
}

/* ---------------------------------------------------------------- slots */

/* The slot of a token, -1 if the token names none, or if the slot was freed. */
static int find_slot(const char *token, apr_uint64_t *nonce)
{
    apr_uint64_t numbers[2] = {0, 0};
    int i;

    for (i = 0; i < USP_S3_TOKEN_SIZE; i++) {
        int c = token[i], digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (digit < 0)
            return -1;
        numbers[i >= SLOT_DIGITS] = numbers[i >= SLOT_DIGITS] << 4 | (apr_uint64_t)digit;
    }
    *nonce = numbers[1];
    if (!memory || numbers[0] >= SLOTS || !*nonce
        || __atomic_load_n(&memory->slot_nonces[numbers[0]], __ATOMIC_ACQUIRE) != *nonce)
        return -1;
    return (int)numbers[0];
}

static void write_hex(char *text, apr_uint64_t number, int digits)
{
    while (digits--) {
        text[digits] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}

void usp_s3_open_slot(char *token)
{
    static __thread unsigned next;
    apr_uint64_t nonce;
    int i;

    memset(token, '0', USP_S3_TOKEN_SIZE);
    if (!memory || getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != sizeof(nonce) || !nonce)
        return;
    if (!next)
        next = (unsigned)nonce; /* threads begin at different slots, and use the same ones again */
    for (i = 0; i < SLOTS; i++) {
        unsigned slot = (next + (unsigned)i) % SLOTS;
        apr_uint64_t expected = 0;

        if (!__atomic_compare_exchange_n(&memory->slot_nonces[slot], &expected, nonce, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            continue;
        next = slot;
        memory->slot_owners[slot] = getpid();
        memset(&memory->slot_totals[slot], 0, sizeof(usp_s3_totals));
        write_hex(token, slot, SLOT_DIGITS);
        write_hex(token + SLOT_DIGITS, nonce, USP_S3_TOKEN_SIZE - SLOT_DIGITS);
        return;
    }
}

/* Returns whether the slot was locked. Another process that has locked it is not waited for long: it may have been killed. */
static int lock_slot(int slot)
{
    int waits;

    for (waits = 0; waits < MAX_WAITS; waits++) {
        pid_t expected = 0;

        if (__atomic_compare_exchange_n(&memory->slot_locks[slot], &expected, getpid(), 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return 1;
        sched_yield();
    }
    return 0;
}

static void unlock_slot(int slot)
{
    __atomic_store_n(&memory->slot_locks[slot], 0, __ATOMIC_RELEASE);
}

/* Free a slot that this process has locked, or that was locked by a process that has ended. */
static void free_slot(int slot)
{
    memory->slot_owners[slot] = 0; /* unknown until the next one has stored its own */
    __atomic_store_n(&memory->slot_nonces[slot], 0, __ATOMIC_RELEASE);
    unlock_slot(slot);
}

void usp_s3_add_to_slot(const char *token, const usp_s3_exchange *exchange)
{
    apr_uint64_t nonce;
    int slot = find_slot(token, &nonce);

    if (slot < 0 || !lock_slot(slot))
        return;
    if (__atomic_load_n(&memory->slot_nonces[slot], __ATOMIC_RELAXED) == nonce)
        usp_s3_add_to_totals(&memory->slot_totals[slot], exchange);
    unlock_slot(slot);
}

int usp_s3_close_slot(const char *token, usp_s3_totals *totals)
{
    apr_uint64_t nonce;
    int slot = find_slot(token, &nonce);

    if (slot < 0 || !lock_slot(slot))
        return 0;
    *totals = memory->slot_totals[slot];
    free_slot(slot);
    return totals->exchanges > 0;
}

int usp_s3_count_open_slots(void)
{
    int count = 0, i;

    for (i = 0; memory && i < SLOTS; i++)
        count += __atomic_load_n(&memory->slot_nonces[i], __ATOMIC_RELAXED) != 0;
    return count;
}

/* ---------------------------------------------------------------- hooks */

static int has_ended(pid_t process)
{
    return process && kill(process, 0) != 0 && errno == ESRCH;
}

/* Free a slot of a child that has ended, and one that was locked by a process that has ended. */
static void free_slot_if_abandoned(int slot, int is_abandoned)
{
    if (!__atomic_load_n(&memory->slot_nonces[slot], __ATOMIC_ACQUIRE))
        return;
    if (has_ended(__atomic_load_n(&memory->slot_locks[slot], __ATOMIC_ACQUIRE)) || (is_abandoned && lock_slot(slot)))
        free_slot(slot);
}

/* Free the slots of processes that were killed. */
static int free_slots_of_killed_processes(apr_pool_t *pool, server_rec *server)
{
    static apr_uint64_t last_check;
    apr_uint64_t now = usp_s3_monotonic_time();
    int i;

    (void)pool;
    (void)server;
    if (!memory || now - last_check < SLOT_CHECK_INTERVAL)
        return DECLINED;
    last_check = now;
    for (i = 0; i < SLOTS; i++) {
        if (__atomic_load_n(&memory->slot_nonces[i], __ATOMIC_RELAXED))
            free_slot_if_abandoned(i, has_ended(memory->slot_owners[i]));
    }
    return DECLINED;
}

/* A new child may have the process id of one that was killed. */
static void free_slots_of_namesake(apr_pool_t *pool, server_rec *server)
{
    pid_t own = getpid();
    int i;

    (void)pool;
    (void)server;
    for (i = 0; memory && i < SLOTS; i++) {
        if (memory->slot_owners[i] == own)
            free_slot_if_abandoned(i, 1);
    }
}

/* The memory of an earlier configuration, or new memory; NULL if there is none. */
static shared_memory *get_memory(server_rec *server)
{
    apr_pool_t *pool = server->process->pool;
    apr_shm_t *segment = NULL;
    void *found = NULL;
    apr_status_t status;

    apr_pool_userdata_get(&found, LAYOUT, pool);
    if (found && apr_shm_size_get(found) == sizeof(shared_memory))
        return apr_shm_baseaddr_get(found);
    if ((status = apr_shm_create(&segment, sizeof(shared_memory), NULL, pool)) != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, status, server,
                     USP_S3_LOGNO(USP_S3_CODE_NO_SHARED_MEMORY) "no shared memory for UspS3Metrics: nothing is recorded");
        return NULL;
    }
    apr_pool_userdata_set(segment, LAYOUT, NULL, pool);
    return apr_shm_baseaddr_get(segment); /* filled with zeros by the operating system */
}

static int is_enabled;

static int reset_directives(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary)
{
    (void)config;
    (void)log;
    (void)temporary;
    is_enabled = 0;
    return OK;
}

static int prepare_memory(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    (void)config;
    (void)log;
    (void)temporary;
    memory = is_enabled && ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG ? get_memory(server) : NULL;
    return OK;
}

static const char *set_enabled(cmd_parms *command, void *unused, int flag)
{
    const char *error = ap_check_cmd_context(command, GLOBAL_ONLY);

    (void)unused;
    if (error)
        return error;
    is_enabled = flag;
    return NULL;
}

const command_rec usp_s3_directives[] = {
    AP_INIT_FLAG("UspS3Metrics", set_enabled, NULL, RSRC_CONF,
                 "On: record each exchange with S3, for the access log and for metrics (default: Off)"),
    {NULL},
};

void usp_s3_register_shared_metrics(void)
{
    ap_hook_pre_config(reset_directives, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(prepare_memory, NULL, NULL, APR_HOOK_REALLY_FIRST); /* before mod_wsgi forks its daemons */
    ap_hook_monitor(free_slots_of_killed_processes, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(free_slots_of_namesake, NULL, NULL, APR_HOOK_MIDDLE);
}
