/* Metrics of buckets and of identities in shared memory. */

#include "shared_memory.h"

#include "apr_strings.h"

/* 1 ms to 5 minutes. */
const apr_uint64_t usp_s3_time_bounds[USP_S3_TIME_BOUNDS] = {
    1000,   2500,    5000,    10000,   25000,    50000,    100000,   250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000,
};

/* FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
static unsigned hash_text(unsigned hash, const char *text, apr_size_t size)
{
    apr_size_t i;

    for (i = 0; i + 1 < size && text[i]; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash;
}

int usp_s3_find_bucket(const char *host, const char *bucket)
{
    unsigned hash = hash_text(hash_text(2166136261u, host, USP_S3_HOST_SIZE) * 16777619u, bucket, USP_S3_BUCKET_SIZE);
    int i;

    for (i = 0; i < USP_S3_MAX_BUCKETS; i++) {
        int number = (int)((hash + (unsigned)i) % USP_S3_MAX_BUCKETS);
        usp_s3_bucket_metrics *entry = &usp_s3_memory->buckets[number];

        switch (usp_s3_claim(&entry->state)) {
        case USP_S3_IS_CLAIMED:
            entry->hash = hash;
            apr_cpystrn(entry->host, host, sizeof(entry->host));
            apr_cpystrn(entry->bucket, bucket, sizeof(entry->bucket));
            if (usp_s3_make_ready(&entry->state))
                return number;
            break;
        case USP_S3_IS_READY:
            if (entry->hash == hash && usp_s3_is_equal(entry->host, host, sizeof(entry->host))
                && usp_s3_is_equal(entry->bucket, bucket, sizeof(entry->bucket)))
                return number;
            break;
        default:
            break;
        }
    }
    return USP_S3_MAX_BUCKETS;
}

/* Find an outcome among the first ones, or make one there; NULL if there is no place. */
static usp_s3_outcome *find_outcome(usp_s3_way_metrics *metrics, int limit, int status_class, const char *s3_code,
                                    const char *error)
{
    int i;

    for (i = 0; i < limit; i++) {
        usp_s3_outcome *outcome = &metrics->outcomes[i];
        unsigned state = usp_s3_claim(&outcome->state);

        if (state == USP_S3_IS_CLAIMED) {
            outcome->status_class = status_class;
            apr_cpystrn(outcome->s3_code, s3_code, sizeof(outcome->s3_code));
            apr_cpystrn(outcome->error, error, sizeof(outcome->error));
            if (usp_s3_make_ready(&outcome->state))
                return outcome;
        }
        else if (state == USP_S3_IS_READY && outcome->status_class == status_class
                 && usp_s3_is_equal(outcome->s3_code, s3_code, sizeof(outcome->s3_code))
                 && usp_s3_is_equal(outcome->error, error, sizeof(outcome->error)))
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
    usp_s3_add(outcome ? &outcome->count : &metrics->outcomes[USP_S3_MAX_OUTCOMES].count, 1);
}

int usp_s3_is_outcome_used(const usp_s3_outcome *outcome)
{
    return usp_s3_is_ready(&outcome->state);
}

static void observe(usp_s3_histogram *histogram, apr_uint64_t time)
{
    int i = 0;

    while (i < USP_S3_TIME_BOUNDS && time > usp_s3_time_bounds[i])
        i++;
    usp_s3_add(&histogram->counts[i], 1);
    usp_s3_add(&histogram->sum, time);
}

/* ---------------------------------------------------------------- the last hour */

/*
 * Codes of failures that any client can cause at will, as errors.py has them: not logged. A denied object may be one, and may
 * be a missing permission of this server, if all are denied.
 */
usp_s3_fault usp_s3_fault_of(const char *error)
{
    if (!*error)
        return USP_S3_NO_FAULT;
    if (strcmp(error, "USPS30303") == 0)
        return USP_S3_DENIED;
    return strncmp(error, "USPS302", 7) == 0 || strcmp(error, "USPS30302") == 0 ? USP_S3_FAULT_OF_CLIENT : USP_S3_FAULT;
}

static apr_uint64_t load(const apr_uint64_t *number)
{
    return __atomic_load_n(number, __ATOMIC_RELAXED);
}

/* The counters of each minute, in the order of read_last_hour. */
static const int minute_counters[USP_S3_MINUTE_FIRST_BYTES - USP_S3_MINUTE_COUNTERS] = {
    USP_S3_BODY_BYTES,
    USP_S3_ATTEMPTS,
    USP_S3_CLOCK_CORRECTIONS,
    USP_S3_REGION_CORRECTIONS,
};

static void take_values(const usp_s3_way_metrics *metrics, apr_uint64_t *values)
{
    int i;

    memset(values, 0, USP_S3_MINUTE_VALUES * sizeof(*values));
    for (i = 0; i < USP_S3_FAULTS; i++)
        values[i] = load(&metrics->failures[i]);
    for (i = 0; i < (int)(sizeof(minute_counters) / sizeof(*minute_counters)); i++)
        values[USP_S3_MINUTE_COUNTERS + i] = load(&metrics->counters[minute_counters[i]]);
    for (i = 0; i <= USP_S3_TIME_BOUNDS; i++)
        values[USP_S3_MINUTE_FIRST_BYTES] += load(&metrics->first_byte.counts[i]);
    values[USP_S3_MINUTE_FIRST_BYTE_SUM] = load(&metrics->first_byte.sum);
}

static apr_uint64_t current_minute(void)
{
    return usp_s3_monotonic_time() / 60000000 + 1;
}

/* Before the first exchange of a minute is counted: keep the counters as they are at its beginning. */
static void begin_minute(usp_s3_way_metrics *metrics)
{
    apr_uint64_t now = current_minute();
    usp_s3_minute *minute = &metrics->minutes[now % USP_S3_MINUTES];
    apr_uint64_t found = load(&minute->number);

    /* A process that is killed in between leaves a minute that is counted together with the one before. */
    if ((found & ~USP_S3_MINUTE_IS_CLAIMED) >= now
        || !__atomic_compare_exchange_n(&minute->number, &found, now | USP_S3_MINUTE_IS_CLAIMED, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
        return;
    take_values(metrics, minute->values);
    /* Nor is it used if this process stood still until the next minute had begun. */
    __atomic_store_n(&minute->number, current_minute() == now ? now : 0, __ATOMIC_RELEASE);
}

/*
 * An hour of exchanges: values[0] is that of 59 minutes ago, values[59] of this minute. Each minute that has an exchange has
 * the counters of its beginning, so that its own are the difference to the next minute that has one, or to now.
 */
void usp_s3_get_last_hour(const usp_s3_way_metrics *metrics, apr_uint64_t values[USP_S3_HOUR][USP_S3_MINUTE_VALUES])
{
    apr_uint64_t now = current_minute(), end[USP_S3_MINUTE_VALUES];
    int ago, i;

    take_values(metrics, end);
    memset(values, 0, USP_S3_HOUR * sizeof(*values));
    for (ago = 0; ago < USP_S3_HOUR && (apr_uint64_t)ago < now; ago++) {
        const usp_s3_minute *minute = &metrics->minutes[(now - (apr_uint64_t)ago) % USP_S3_MINUTES];
        apr_uint64_t begin[USP_S3_MINUTE_VALUES];

        if (__atomic_load_n(&minute->number, __ATOMIC_ACQUIRE) != now - (apr_uint64_t)ago)
            continue;
        memcpy(begin, minute->values, sizeof(begin));
        for (i = 0; i < USP_S3_MINUTE_VALUES; i++)
            values[USP_S3_HOUR - 1 - ago][i] = end[i] > begin[i] ? end[i] - begin[i] : 0;
        memcpy(end, begin, sizeof(end));
    }
}

/* ---------------------------------------------------------------- exchanges */

void usp_s3_record_exchange(const usp_s3_exchange *exchange)
{
    usp_s3_way_metrics *metrics;
    int i;

    if (!usp_s3_memory)
        return;
    metrics = &usp_s3_memory->buckets[usp_s3_find_bucket(exchange->host, exchange->bucket)].ways[exchange->way];
    begin_minute(metrics);
    count_outcome(metrics, exchange->s3_status / 100, exchange->s3_code, exchange->error);
    for (i = 0; i < USP_S3_COUNTERS; i++)
        usp_s3_add(&metrics->counters[i], exchange->counters[i]);
    if (exchange->has_first_byte)
        observe(&metrics->first_byte, exchange->first_byte);
    observe(&metrics->duration, exchange->duration);
    usp_s3_add(&metrics->failures[usp_s3_fault_of(exchange->error)], 1);
}

const usp_s3_bucket_metrics *usp_s3_get_bucket_metrics(int number, int *is_overflow)
{
    int i;

    for (i = 0; usp_s3_memory && i <= USP_S3_MAX_BUCKETS; i++) {
        *is_overflow = i == USP_S3_MAX_BUCKETS;
        if ((*is_overflow || usp_s3_is_ready(&usp_s3_memory->buckets[i].state)) && !number--)
            return &usp_s3_memory->buckets[i];
    }
    return NULL;
}

const usp_s3_bucket_metrics *usp_s3_get_bucket_entry(int number)
{
    return usp_s3_memory && number >= 0 && number <= USP_S3_MAX_BUCKETS ? &usp_s3_memory->buckets[number] : NULL;
}

int usp_s3_get_bucket_number(const usp_s3_bucket_metrics *entry)
{
    return (int)(entry - usp_s3_memory->buckets);
}

void usp_s3_record_refresh(const char *identity, apr_uint64_t expires, int is_success)
{
    apr_uint64_t now = (apr_uint64_t)apr_time_sec(apr_time_now());
    int i;

    for (i = 0; usp_s3_memory && i < USP_S3_MAX_IDENTITIES; i++) {
        usp_s3_identity_metrics *entry = &usp_s3_memory->identities[i];
        unsigned state = usp_s3_claim(&entry->state);

        if (state == USP_S3_IS_CLAIMED) {
            apr_cpystrn(entry->name, identity, sizeof(entry->name));
            if (!usp_s3_make_ready(&entry->state))
                continue;
        }
        else if (state != USP_S3_IS_READY || !usp_s3_is_equal(entry->name, identity, sizeof(entry->name)))
            continue;
        usp_s3_add(is_success ? &entry->successes : &entry->failures, 1);
        if (is_success) {
            __atomic_store_n(&entry->expires, expires, __ATOMIC_RELAXED);
            __atomic_store_n(&entry->generation, usp_s3_generation, __ATOMIC_RELAXED);
        }
        __atomic_store_n(is_success ? &entry->refreshed_at : &entry->failed_at, now, __ATOMIC_RELAXED);
        __atomic_store_n(&entry->is_failing, !is_success, __ATOMIC_RELAXED);
        return;
    }
}

const usp_s3_identity_metrics *usp_s3_get_identity_metrics(int number)
{
    int i;

    for (i = 0; usp_s3_memory && i < USP_S3_MAX_IDENTITIES; i++) {
        if (usp_s3_is_ready(&usp_s3_memory->identities[i].state) && !number--)
            return &usp_s3_memory->identities[i];
    }
    return NULL;
}
