/*
 * Faster graceful restarts. httpd tells its idle children to exit, reads the configuration, and then replaces each child that
 * has exited. If none has, it sleeps for a second before it starts any (ap_wait_or_timeout), and no request is handled. A
 * child with Python in it takes longer to exit than httpd to read the configuration, so that is waited for here.
 */

#include "mod_usp_s3.h"

#include "ap_mpm.h"
#include "scoreboard.h"

#include <sys/wait.h>

/* Milliseconds. */
#define POLL_INTERVAL 5
#define FIRST_EXIT_TIMEOUT 200 /* until the first child exits */
#define NEXT_EXIT_TIMEOUT 50   /* since the last child exited */
#define TOTAL_TIMEOUT 600

/* The number of children that have exited and that httpd has not reaped yet; *alive is the number of the others. */
static int count_exited(int *alive)
{
    int limit = 0, exited = 0, i;

    *alive = 0;
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &limit);
    for (i = 0; ap_scoreboard_image && i < limit; i++) {
        process_score *child = ap_get_scoreboard_process(i);
        siginfo_t info;

        memset(&info, 0, sizeof(info));
        if (!child || child->pid <= 0 || waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
            continue;
        if (info.si_pid)
            exited++;
        else
            (*alive)++;
    }
    return exited;
}

void usp_s3_wait_for_exiting_children(void)
{
    int elapsed, idle = 0, previous = 0;

    for (elapsed = 0; elapsed < TOTAL_TIMEOUT; elapsed += POLL_INTERVAL, idle += POLL_INTERVAL) {
        int alive, exited = count_exited(&alive);

        if (exited != previous)
            idle = 0;
        previous = exited;
        if (!alive || idle >= (exited ? NEXT_EXIT_TIMEOUT : FIRST_EXIT_TIMEOUT))
            return;
        apr_sleep(POLL_INTERVAL * 1000);
    }
}
