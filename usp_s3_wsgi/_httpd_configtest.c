/*
 * What is wrong with the S3 settings, said by "httpd -t" and at each start and restart rather than by the first request.
 *
 * Python is not in httpd yet, and the parser of settings is Python: so httpd's own parse result (includes, macros, Define
 * and IfModule are resolved in it) goes to a process of its own, which runs usp_s3_wsgi/configtest. It goes there on
 * standard input, for arguments and environments of processes can be read by others and the configuration holds secrets.
 * What comes back is a list of findings, each with the file and line of a directive.
 *
 * The process starts as httpd's user, root, and becomes the user of httpd's children by itself, when it has read all it
 * needs and before it opens the files that settings name. Not here, before exec: a process that became another user stays
 * closed to that user's other processes (ptrace, /proc/PID/mem), such as CGI scripts; a program started by it does not.
 */

#include "_httpd.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "unixd.h"
#include "util_cfgtree.h"

/* Seconds after which the process is ended: a start must not wait for a file on a server that does not answer. */
#define TIME_LIMIT 30
/* More than this it never says. */
#define LARGEST_ANSWER (16 * 1024 * 1024)
/* What the answer ends with, if it is whole. */
#define END "end"
/* The code of the only finding that is made here: FindingCode.CHECK_FAILED in configtest/codes.py. */
#define CHECK_FAILED "USPS30826"

extern char **environ;

/* ---------------------------------------------------------------- what is told of the configuration */

/* Whether a directive sets a variable whose name begins as those of settings. */
static int is_setting(const ap_directive_t *directive)
{
    const char *name = directive->args;

    if (ap_cstr_casecmp(directive->directive, "SetEnv") != 0 && ap_cstr_casecmp(directive->directive, "PassEnv") != 0)
        return 0;
    if (strncasecmp(name + strspn(name, "\"'"), "S3", 2) == 0)
        return 1;
    while ((name = strpbrk(name, " \t"))) { /* PassEnv has several; of SetEnv this may be the value */
        name += strspn(name, " \t\"'");
        if (strncasecmp(name, "S3", 2) == 0)
            return 1;
    }
    return 0;
}

static int has_settings(const ap_directive_t *directive)
{
    for (; directive; directive = directive->next) {
        if (is_setting(directive) || has_settings(directive->first_child))
            return 1;
    }
    return 0;
}

/* Where a text is put together: measured first, with bytes NULL. */
typedef struct {
    char *bytes;
    apr_size_t length;
} writer;

/* One field. A zero byte ends it, which no C string can hold, so that nothing need be escaped. */
static void put(writer *to, const char *field)
{
    apr_size_t size = strlen(field) + 1;

    if (to->bytes)
        memcpy(to->bytes + to->length, field, size);
    to->length += size;
}

static void put_number(writer *to, long number)
{
    char text[24];

    apr_snprintf(text, sizeof(text), "%ld", number);
    put(to, text);
}

static void put_directives(writer *to, const ap_directive_t *directive, int depth)
{
    for (; directive; directive = directive->next) {
        put_number(to, depth);
        put(to, directive->filename ? directive->filename : "");
        put_number(to, directive->line_num);
        put(to, directive->directive);
        put(to, directive->args ? directive->args : "");
        put_directives(to, directive->first_child, depth + 1);
    }
}

/* As parsed_config.py reads it. */
static void put_all(writer *to, int is_test)
{
    put(to, is_test ? "test" : "start");
    put_number(to, (long)ap_unixd_config.user_id);
    put_number(to, (long)ap_unixd_config.group_id);
    put(to, ap_unixd_config.user_name ? ap_unixd_config.user_name : "");
    put(to, ap_unixd_config.chroot_dir ? ap_unixd_config.chroot_dir : "");
    put_directives(to, ap_conftree, 0);
}

/* ---------------------------------------------------------------- the process that checks */

/* The folder above one that a path names, or NULL. */
static char *parent(apr_pool_t *pool, const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash && slash != path ? apr_pstrmemdup(pool, path, (apr_size_t)(slash - path)) : NULL;
}

/* This shared object's own folder: the package that it belongs to. */
static char *package_folder(apr_pool_t *pool)
{
    Dl_info info;
    char *real, *folder;

    if (!dladdr(&usp_s3_module, &info) || !info.dli_fname || !(real = realpath(info.dli_fname, NULL)))
        return NULL;
    folder = parent(pool, real);
    free(real);
    return folder;
}

/* What "usp-s3 apache-config" says, or else the environment that this package is in: PREFIX/lib/python3.x/site-packages. */
static char *python_program(apr_pool_t *pool, const char *package)
{
    const char *home;

    if (ap_exists_config_define("USP_S3_PYTHON_HOME"))
        home = ap_resolve_env(pool, "${USP_S3_PYTHON_HOME}");
    else
        home = parent(pool, parent(pool, parent(pool, parent(pool, package))));
    return home ? apr_pstrcat(pool, home, "/bin/python3", NULL) : NULL;
}

static void close_from(int first)
{
    long last;

#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0)
        return;
#endif
    for (last = sysconf(_SC_OPEN_MAX), last = last > 0 && last < 65536 ? last : 65536; first < last; first++)
        close(first);
}

/* In a process of its own: signals mean what they mean by default, and none is for httpd's whole group. */
static void leave_httpd(void)
{
    struct sigaction standard;
    sigset_t none;
    int number;

    memset(&standard, 0, sizeof(standard));
    standard.sa_handler = SIG_DFL;
    for (number = 1; number < 32; number++)
        sigaction(number, &standard, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
}

/* Between fork and exec: nothing but system calls. No file of httpd's stays open, and its terminal is not used. */
static void become(char *const *arguments, int channel)
{
    int null;

    leave_httpd();
    channel = fcntl(channel, F_DUPFD, 3); /* httpd may have been started without these three */
    null = open("/dev/null", O_WRONLY);
    null = null >= 0 ? fcntl(null, F_DUPFD, 3) : -1;
    if (channel >= 0 && null >= 0 && dup2(channel, 0) == 0 && dup2(channel, 1) == 1 && dup2(null, 2) == 2) {
        close_from(3);
        execve(arguments[0], arguments, environ);
    }
    _exit(127);
}

/* Milliseconds, by a clock that nobody sets. */
static long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/*
 * Send the configuration and read the answer, both at once: neither side ever waits for the other to read. Returns NULL,
 * or why there is no whole answer.
 */
static const char *talk(int channel, const writer *configuration, writer *answer, long long deadline)
{
    apr_size_t sent = 0, room = 65536;

    answer->length = 0;
    answer->bytes = malloc(room);
    while (answer->bytes) {
        struct pollfd poll_for = {channel, (short)(POLLIN | (sent < configuration->length ? POLLOUT : 0)), 0};
        long long left = deadline - now();
        ssize_t count;

        if (left <= 0)
            return "it did not end in time";
        if (poll(&poll_for, 1, (int)left) < 0 && errno != EINTR)
            return "poll failed";
        if (sent < configuration->length) {
            count = send(channel, configuration->bytes + sent, configuration->length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (count > 0)
                sent += (apr_size_t)count;
            else if (errno == EPIPE || errno == ECONNRESET)
                sent = configuration->length; /* it has ended, and what it said can still be read */
            if (sent == configuration->length)
                shutdown(channel, SHUT_WR);
        }
        count = recv(channel, answer->bytes + answer->length, room - answer->length, MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            break;
        if (count < 0)
            continue;
        answer->length += (apr_size_t)count;
        if (answer->length == room) {
            char *larger = room < LARGEST_ANSWER ? realloc(answer->bytes, room *= 2) : NULL;

            if (!larger)
                return "it said too much";
            answer->bytes = larger;
        }
    }
    if (answer->length < sizeof(END) || memcmp(answer->bytes + answer->length - sizeof(END), END, sizeof(END)) != 0)
        return "it failed";
    return NULL;
}

/* Wait for its end; it has said all it will, and is not waited for any longer than until then. */
static void reap(pid_t process, long long deadline)
{
    struct timespec pause = {0, 2000000};

    while (now() < deadline) {
        pid_t ended = waitpid(process, NULL, WNOHANG);

        if (ended == process || (ended < 0 && errno != EINTR))
            return;
        nanosleep(&pause, NULL);
    }
    kill(-process, SIGKILL);
    kill(process, SIGKILL);
    while (waitpid(process, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* Run the check; returns NULL, or why there is no answer. */
static const char *ask(apr_pool_t *pool, const writer *configuration, writer *answer)
{
    const char *package = package_folder(pool), *python = python_program(pool, package), *failure;
    char *script = package ? apr_pstrcat(pool, package, "/configtest/__main__.py", NULL) : NULL;
    /* Isolated: no variable, no current folder and no site's startup files decide what runs there. Nothing is written. */
    char *const arguments[] = {(char *)python, "-I", "-S", "-B", script, NULL};
    long long deadline = now() + TIME_LIMIT * 1000;
    int channel[2];
    pid_t process;

    if (!script || access(script, R_OK) != 0)
        return "its program is not beside usp_s3_module";
    if (!python || access(python, X_OK) != 0)
        return apr_psprintf(pool, "there is no Python: %s", python ? python : "USP_S3_PYTHON_HOME is not defined");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0)
        return "no socket";
    process = fork();
    if (process == 0)
        become(arguments, channel[1]);
    close(channel[1]);
    if (process < 0) {
        close(channel[0]);
        return "no process";
    }
    failure = talk(channel[0], configuration, answer, deadline);
    close(channel[0]);
    reap(process, failure ? now() : deadline);
    return failure;
}

/* ---------------------------------------------------------------- what is said of it */

/* As httpd itself does: on the terminal with -t, without the time; else in the error log. */
static void say(server_rec *server, int is_test, int level, const char *code, const char *place, const char *text)
{
    if (is_test)
        ap_log_error(APLOG_MARK, APLOG_STARTUP | level, 0, NULL, "%s: usp_s3_wsgi: %s%s", code, place, text);
    else
        ap_log_error(APLOG_MARK, level, 0, server, "%s: usp_s3_wsgi: %s%s", code, place, text);
}

/*
 * Each finding is five fields: error or warning, file, line, code, text. Returns how many errors there are. The terminal shows no
 * levels, as the error log does.
 */
static int say_all(apr_pool_t *pool, server_rec *server, int is_test, const writer *answer)
{
    const char *field = answer->bytes, *end = answer->bytes + answer->length - sizeof(END);
    int errors = 0;

    while (field < end) {
        const char *fields[5], *place;
        int i, is_error;

        for (i = 0; i < 5 && field < end; i++, field += strlen(field) + 1)
            fields[i] = field;
        if (i < 5)
            break;
        is_error = strcmp(fields[0], "error") == 0;
        errors += is_error;
        place = *fields[1] ? apr_psprintf(pool, "%s:%s: ", fields[1], fields[2]) : "";
        if (is_test && !is_error)
            place = apr_pstrcat(pool, place, "warning: ", NULL);
        say(server, is_test, is_error ? APLOG_ERR : APLOG_WARNING, fields[3], place, fields[4]);
    }
    return errors;
}

/* Check, and tell; returns how many errors there are. */
static int check(apr_pool_t *pool, server_rec *server, int is_test)
{
    writer configuration = {NULL, 0}, answer = {NULL, 0};
    const char *failure;
    int errors = 0;

    put_all(&configuration, is_test);
    configuration.bytes = apr_palloc(pool, configuration.length);
    configuration.length = 0;
    put_all(&configuration, is_test);
    if ((failure = ask(pool, &configuration, &answer)))
        say(server, is_test, APLOG_WARNING, CHECK_FAILED, "could not check the S3 settings: ", failure);
    else
        errors = say_all(pool, server, is_test, &answer);
    free(answer.bytes);
    memset(configuration.bytes, 0, configuration.length);
    return errors;
}

/* What a process that httpd does not know of must not keep: nobody could listen there after httpd's end. */
static void close_listeners(void)
{
    long fd, last = sysconf(_SC_OPEN_MAX);

    for (last = last > 0 && last < 65536 ? last : 65536, fd = 3; fd < last; fd++) {
        int listens = 0;
        socklen_t size = sizeof(listens);

        if (getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens)
            close((int)fd);
    }
}

/* httpd has seen that the process which checks has ended. */
static void forget(int reason, void *process, int status)
{
    (void)status;
    if (reason == APR_OC_REASON_DEATH || reason == APR_OC_REASON_LOST)
        apr_proc_other_child_unregister(process);
}

static void check_and_exit(apr_pool_t *pool, server_rec *server)
{
    leave_httpd();
    close_listeners();
    setpriority(PRIO_PROCESS, 0, 10); /* the children need the processors more */
    check(pool, server, 0);
    _exit(0);
}

/*
 * At a restart the old children are gone, and the new ones begin soon: it is not waited for. httpd wonders about children that it
 * does not know, so the process is a grandchild; but where httpd is the first process of a container, which inherits those, one
 * that it knows until the next restart.
 */
static void check_aside(apr_pool_t *config, apr_pool_t *temporary, server_rec *server)
{
    apr_proc_t *process = apr_pcalloc(config, sizeof(*process));
    int is_first = getpid() == 1;

    process->pid = fork();
    if (process->pid < 0)
        check(temporary, server, 0);
    else if (process->pid == 0) {
        if (is_first || fork() == 0)
            check_and_exit(temporary, server);
        _exit(0);
    }
    else if (is_first)
        apr_proc_other_child_register(process, forget, process, NULL, config);
    else {
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
}

static int is_restart(void)
{
    return ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_NORMAL && ap_state_query(AP_SQ_CONFIG_GEN) > 1;
}

static int check_at_restart(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    (void)log;
    if (is_restart() && has_settings(ap_conftree))
        check_aside(config, temporary, server);
    return OK;
}

/*
 * An error ends "httpd -t", so that whoever tests before a reload does not reload. It never ends a start or a restart: a
 * secret file that is missing for a moment must not take down the other sites of the server, and at a graceful restart an
 * error of this hook ends httpd.
 */
static int check_configuration(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    int mode = ap_state_query(AP_SQ_RUN_MODE), is_test = mode == AP_SQ_RM_CONFIG_TEST;

    (void)config;
    (void)log;
    /* A start reads the configuration twice, and has its error log at the second time. */
    if (!is_test && (mode != AP_SQ_RM_NORMAL || ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG))
        return OK;
    if (!has_settings(ap_conftree))
        return OK;
    if (is_restart()) {
        usp_s3_await_children();
        return OK; /* until the new error log is open */
    }
    return check(temporary, server, is_test) && is_test ? HTTP_INTERNAL_SERVER_ERROR : OK;
}

void usp_s3_register_configtest(void)
{
    ap_hook_check_config(check_configuration, NULL, NULL, APR_HOOK_LAST);
    ap_hook_post_config(check_at_restart, NULL, NULL, APR_HOOK_REALLY_LAST); /* the new error log is open */
}
