/*
 * At a graceful restart httpd sends its idle children away, reads the configuration, and then replaces each child that it
 * finds ended; where it finds none, it sleeps for a second before it starts any (ap_wait_or_timeout), and nobody answers.
 * A child with Python in it needs a moment to end, longer than the configuration takes: so that moment is waited for here.
 */

#include "mod_usp_s3.h"

#include "ap_mpm.h"
#include "scoreboard.h"

#include <sys/wait.h>

/* Milliseconds: between two looks; without a child that ends; since the last one ended; and in all. */
#define PAUSE 5
#define PATIENCE 200
#define AFTER_THE_LAST 50
#define AT_MOST 600

/* How many of httpd's children have ended, and wait for httpd to notice; the others that there are, in *alive. */
static int count_ended(int *alive)
{
    int limit = 0, ended = 0, i;

    *alive = 0;
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &limit);
    for (i = 0; ap_scoreboard_image && i < limit; i++) {
        process_score *child = ap_get_scoreboard_process(i);
        siginfo_t info;

        memset(&info, 0, sizeof(info));
        if (!child || child->pid <= 0 || waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
            continue;
        if (info.si_pid)
            ended++;
        else
            (*alive)++;
    }
    return ended;
}

void usp_s3_await_children(void)
{
    int passed, quiet = 0, before = 0;

    for (passed = 0; passed < AT_MOST; passed += PAUSE, quiet += PAUSE) {
        int alive, ended = count_ended(&alive);

        if (ended != before)
            quiet = 0;
        before = ended;
        if (!alive || quiet >= (ended ? AFTER_THE_LAST : PATIENCE))
            return;
        apr_sleep(PAUSE * 1000);
    }
}
