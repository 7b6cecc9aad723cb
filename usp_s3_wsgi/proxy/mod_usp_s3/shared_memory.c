/* The memory that all processes share: its creation, the directive, and how processes use it at the same time. */

#include "shared_memory.h"

#include "log_codes.h"
#include "mod_usp_s3.h"

#include "mpm_common.h"
#include "apr_shm.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

/* How often a process looks again at what another process is changing: that takes less than a microsecond. */
#define MAX_WAITS 1000
/* Microseconds between two searches for what killed processes held. */
#define CHECK_INTERVAL 5000000
/*
 * The name of the memory in httpd's process pool. It is changed with each change of the memory's layout, because a restart may
 * load another version of this module.
 */
#define LAYOUT "usp_s3_wsgi metrics, layout 4"

usp_s3_shared_memory *usp_s3_memory;

apr_uint64_t usp_s3_monotonic_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (apr_uint64_t)now.tv_sec * 1000000 + (apr_uint64_t)now.tv_nsec / 1000;
}

int usp_s3_is_recording(void)
{
    return usp_s3_memory != NULL;
}

void usp_s3_add(apr_uint64_t *number, apr_uint64_t amount)
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

unsigned usp_s3_claim(unsigned *state)
{
    int waits;

    for (waits = 0; waits < MAX_WAITS; waits++) {
        unsigned found = __atomic_load_n(state, __ATOMIC_ACQUIRE);

        if (found == USP_S3_IS_READY || found == USP_S3_IS_ABANDONED)
            return found;
        if (found == USP_S3_IS_FREE && change_state(state, USP_S3_IS_FREE, USP_S3_IS_CLAIMED))
            return USP_S3_IS_CLAIMED;
        sched_yield();
    }
    change_state(state, USP_S3_IS_CLAIMED, USP_S3_IS_ABANDONED);
    return __atomic_load_n(state, __ATOMIC_ACQUIRE);
}

int usp_s3_make_ready(unsigned *state)
{
    return change_state(state, USP_S3_IS_CLAIMED, USP_S3_IS_READY);
}

int usp_s3_is_ready(const unsigned *state)
{
    return __atomic_load_n(state, __ATOMIC_ACQUIRE) == USP_S3_IS_READY;
}

int usp_s3_is_equal(const char *stored, const char *text, apr_size_t size)
{
    return strncmp(stored, text, size - 1) == 0;
}

/* ---------------------------------------------------------------- locks */

int usp_s3_lock(pid_t *lock)
{
    int waits;

    for (waits = 0; waits < MAX_WAITS; waits++) {
        pid_t expected = 0;

        if (__atomic_compare_exchange_n(lock, &expected, getpid(), 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return 1;
        sched_yield();
    }
    return 0;
}

void usp_s3_unlock(pid_t *lock)
{
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

void usp_s3_unlock_if_abandoned(pid_t *lock)
{
    if (usp_s3_has_ended(__atomic_load_n(lock, __ATOMIC_ACQUIRE)))
        usp_s3_unlock(lock);
}

int usp_s3_has_ended(pid_t process)
{
    return process && kill(process, 0) != 0 && errno == ESRCH;
}

static int free_what_killed_processes_held(apr_pool_t *pool, server_rec *server)
{
    static apr_uint64_t last_check;
    apr_uint64_t now = usp_s3_monotonic_time();

    (void)pool;
    (void)server;
    if (usp_s3_memory && now - last_check >= CHECK_INTERVAL) {
        last_check = now;
        usp_s3_free_slots_of_killed_processes();
        usp_s3_unlock_failures_of_killed_processes();
        usp_s3_unlock_if_abandoned(&usp_s3_memory->configuration_lock);
    }
    return DECLINED;
}

static void begin_child(apr_pool_t *pool, server_rec *server)
{
    (void)pool;
    (void)server;
    if (!usp_s3_memory)
        return;
    usp_s3_free_slots_of_namesake();
    usp_s3_unlock_failures_of_namesake();
    usp_s3_register_process(USP_S3_HTTPD_CHILD);
}

/* ---------------------------------------------------------------- the memory */

/* The memory of an earlier configuration, or new memory; NULL if there is none. */
static usp_s3_shared_memory *get_memory(server_rec *server)
{
    apr_pool_t *pool = server->process->pool;
    usp_s3_shared_memory *memory;
    apr_shm_t *segment = NULL;
    void *found = NULL;
    apr_status_t status;

    apr_pool_userdata_get(&found, LAYOUT, pool);
    if (found && apr_shm_size_get(found) == sizeof(*memory))
        return apr_shm_baseaddr_get(found);
    if ((status = apr_shm_create(&segment, sizeof(*memory), NULL, pool)) != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, status, server,
                     USP_S3_LOGNO(USP_S3_CODE_NO_SHARED_MEMORY) "no shared memory for UspS3Metrics: nothing is recorded");
        return NULL;
    }
    apr_pool_userdata_set(segment, LAYOUT, NULL, pool);
    memory = apr_shm_baseaddr_get(segment); /* filled with zeros by the operating system */
    memory->started_at = (apr_uint64_t)apr_time_sec(apr_time_now());
    return memory;
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
    usp_s3_memory = is_enabled && ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG ? get_memory(server) : NULL;
    if (usp_s3_memory)
        usp_s3_begin_generation();
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
                 "On: record each exchange with S3, for the access log, metrics and the status page (default: Off)"),
    {NULL},
};

void usp_s3_register_shared_memory(void)
{
    ap_hook_pre_config(reset_directives, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(prepare_memory, NULL, NULL, APR_HOOK_REALLY_FIRST); /* before mod_wsgi forks its daemons */
    ap_hook_monitor(free_what_killed_processes_held, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(begin_child, NULL, NULL, APR_HOOK_REALLY_FIRST); /* before Python, which registers daemons */
}
