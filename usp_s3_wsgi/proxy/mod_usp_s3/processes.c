/* The processes that can serve requests: httpd's children, and mod_wsgi's daemons. */

#include "shared_memory.h"

#include "apr_time.h"

#include <unistd.h>

/* The generation of this process' configuration: set by the parent, inherited by those that it forks. */
static unsigned generation;

void usp_s3_begin_generation(void)
{
    generation = ++usp_s3_memory->generation;
}

void usp_s3_register_process(usp_s3_process_kind kind)
{
    static pid_t registered;
    pid_t own = getpid();
    int i;

    if (!usp_s3_memory || registered == own)
        return;
    registered = own;
    for (i = 0; i < USP_S3_MAX_PROCESSES; i++) {
        usp_s3_process *process = &usp_s3_memory->processes[i];
        pid_t found = __atomic_load_n(&process->pid, __ATOMIC_RELAXED);

        if (found && found != own && !usp_s3_has_ended(found))
            continue;
        if (!__atomic_compare_exchange_n(&process->pid, &found, own, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        process->kind = kind;
        process->generation = generation;
        process->started_at = (apr_uint64_t)apr_time_sec(apr_time_now());
        return;
    }
}

int usp_s3_get_process(int number, usp_s3_process *process, int *is_current)
{
    int i;

    for (i = 0; usp_s3_memory && i < USP_S3_MAX_PROCESSES; i++) {
        *process = usp_s3_memory->processes[i];
        if (!process->pid || usp_s3_has_ended(process->pid) || number--)
            continue;
        *is_current = process->generation == usp_s3_memory->generation;
        return 1;
    }
    return 0;
}

apr_uint64_t usp_s3_started_at(void)
{
    return usp_s3_memory ? usp_s3_memory->started_at : 0;
}
