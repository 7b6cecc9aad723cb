/*
 * Slots in shared memory, in which a process of mod_wsgi's daemon mode leaves the totals of the gateway's request for the
 * process that writes the access log.
 */

#include "shared_memory.h"

#include "apr_strings.h"

#include <sys/random.h>
#include <unistd.h>

/* Hexadecimal digits of a token for the slot; the others are a random number, which no page that sets variables can guess. */
#define SLOT_DIGITS 8

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
    if (!usp_s3_memory || numbers[0] >= USP_S3_SLOTS || !*nonce
        || __atomic_load_n(&usp_s3_memory->slot_nonces[numbers[0]], __ATOMIC_ACQUIRE) != *nonce)
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

/* A random number for a slot; 0 if there is none. The operating system gives several at once: each call takes half a microsecond. */
static apr_uint64_t make_nonce(void)
{
    static __thread apr_uint64_t numbers[32];
    static __thread unsigned left; /* the parent makes none, so that its children share none */
    apr_uint64_t nonce;

    if (!left) {
        if (getrandom(numbers, sizeof(numbers), GRND_NONBLOCK) != sizeof(numbers))
            return 0;
        left = sizeof(numbers) / sizeof(*numbers);
    }
    nonce = numbers[--left];
    numbers[left] = 0;
    return nonce;
}

void usp_s3_open_slot(char *token)
{
    static __thread unsigned next;
    apr_uint64_t nonce;
    int i;

    memset(token, '0', USP_S3_TOKEN_SIZE);
    if (!usp_s3_memory || !(nonce = make_nonce()))
        return;
    if (!next)
        next = (unsigned)nonce; /* threads begin at different slots, and use the same ones again */
    for (i = 0; i < USP_S3_SLOTS; i++) {
        unsigned slot = (next + (unsigned)i) % USP_S3_SLOTS;
        apr_uint64_t expected = 0;

        if (!__atomic_compare_exchange_n(&usp_s3_memory->slot_nonces[slot], &expected, nonce, 0, __ATOMIC_ACQUIRE,
                                         __ATOMIC_RELAXED))
            continue;
        next = slot;
        usp_s3_memory->slot_owners[slot] = getpid();
        memset(&usp_s3_memory->slot_totals[slot], 0, sizeof(usp_s3_totals));
        write_hex(token, slot, SLOT_DIGITS);
        write_hex(token + SLOT_DIGITS, nonce, USP_S3_TOKEN_SIZE - SLOT_DIGITS);
        return;
    }
}

/* Free a slot that this process has locked, or that was locked by a process that has ended. */
static void free_slot(int slot)
{
    usp_s3_memory->slot_owners[slot] = 0; /* unknown until the next one has stored its own */
    __atomic_store_n(&usp_s3_memory->slot_nonces[slot], 0, __ATOMIC_RELEASE);
    usp_s3_unlock(&usp_s3_memory->slot_locks[slot]);
}

void usp_s3_add_to_slot(const char *token, const usp_s3_exchange *exchange)
{
    apr_uint64_t nonce;
    int slot = find_slot(token, &nonce);

    if (slot < 0 || !usp_s3_lock(&usp_s3_memory->slot_locks[slot]))
        return;
    if (__atomic_load_n(&usp_s3_memory->slot_nonces[slot], __ATOMIC_RELAXED) == nonce)
        usp_s3_add_to_totals(&usp_s3_memory->slot_totals[slot], exchange);
    usp_s3_unlock(&usp_s3_memory->slot_locks[slot]);
}

int usp_s3_close_slot(const char *token, usp_s3_totals *totals)
{
    apr_uint64_t nonce;
    int slot = find_slot(token, &nonce);

    if (slot < 0 || !usp_s3_lock(&usp_s3_memory->slot_locks[slot]))
        return 0;
    *totals = usp_s3_memory->slot_totals[slot];
    free_slot(slot);
    return totals->exchanges > 0;
}

int usp_s3_count_open_slots(void)
{
    int count = 0, i;

    for (i = 0; usp_s3_memory && i < USP_S3_SLOTS; i++)
        count += __atomic_load_n(&usp_s3_memory->slot_nonces[i], __ATOMIC_RELAXED) != 0;
    return count;
}

/* Free a slot of a child that has ended, and one that was locked by a process that has ended. */
static void free_slot_if_abandoned(int slot, int is_abandoned)
{
    pid_t *lock = &usp_s3_memory->slot_locks[slot];

    if (!__atomic_load_n(&usp_s3_memory->slot_nonces[slot], __ATOMIC_ACQUIRE))
        return;
    if (usp_s3_has_ended(__atomic_load_n(lock, __ATOMIC_ACQUIRE)) || (is_abandoned && usp_s3_lock(lock)))
        free_slot(slot);
}

void usp_s3_free_slots_of_killed_processes(void)
{
    int i;

    for (i = 0; i < USP_S3_SLOTS; i++) {
        if (__atomic_load_n(&usp_s3_memory->slot_nonces[i], __ATOMIC_RELAXED))
            free_slot_if_abandoned(i, usp_s3_has_ended(usp_s3_memory->slot_owners[i]));
    }
}

void usp_s3_free_slots_of_namesake(void)
{
    pid_t own = getpid();
    int i;

    for (i = 0; i < USP_S3_SLOTS; i++) {
        if (usp_s3_memory->slot_owners[i] == own)
            free_slot_if_abandoned(i, 1);
    }
}
