/* The processes that can serve requests: httpd's children, and mod_wsgi's daemons. */

#include "shared_memory.h"

#include "apr_time.h"

#include <unistd.h>

/* Set by the parent, inherited by those that it forks. */
unsigned usp_s3_generation;

void usp_s3_begin_generation(void)
{
    usp_s3_generation = ++usp_s3_memory->generation;
}

int usp_s3_is_current_generation(unsigned generation)
{
    return usp_s3_memory && generation == usp_s3_memory->generation;
}

/* Free the entry of an ended process that had this process' id. */
static void free_namesake(pid_t own)
{
    int i;

    for (i = 0; i < USP_S3_MAX_PROCESSES; i++) {
        pid_t expected = own;

        __atomic_compare_exchange_n(&usp_s3_memory->processes[i].pid, &expected, 0, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
}

void usp_s3_register_process(usp_s3_process_kind kind)
{
    static pid_t registered;
    pid_t own = getpid();
    int i;

    if (!usp_s3_memory || registered == own)
        return;
    registered = own;
    free_namesake(own);
    for (i = 0; i < USP_S3_MAX_PROCESSES; i++) {
        usp_s3_process *process = &usp_s3_memory->processes[i];
        pid_t found = __atomic_load_n(&process->pid, __ATOMIC_RELAXED);

        if (found && !usp_s3_has_ended(found))
            continue;
        if (!__atomic_compare_exchange_n(&process->pid, &found, own, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        process->kind = kind;
        process->generation = usp_s3_generation;
        process->started_at = (apr_uint64_t)apr_time_sec(apr_time_now());
        return;
    }
}

int usp_s3_next_process(int *index, usp_s3_process *process, int *is_current)
{
    while (usp_s3_memory && *index < USP_S3_MAX_PROCESSES) {
        *process = usp_s3_memory->processes[(*index)++];
        if (process->pid && !usp_s3_has_ended(process->pid)) {
            *is_current = usp_s3_is_current_generation(process->generation);
            return 1;
        }
    }
    return 0;
}

apr_uint64_t usp_s3_started_at(void)
{
    return usp_s3_memory ? usp_s3_memory->started_at : 0;
}
