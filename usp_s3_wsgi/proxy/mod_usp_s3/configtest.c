/*
 * Check the S3 settings in "httpd -t" and at each start and restart, so that an error does not wait for the first request.
 *
 * The parser of the settings is in Python, which is not running in httpd yet. So a separate process runs
 * usp_s3_wsgi/configtest. It gets the directives as httpd has parsed them, with includes, macros, Define and IfModule
 * resolved, on standard input: other users can read the arguments and the environment of a process, and the configuration
 * contains secrets. It returns a list of findings, each with the file and line of a directive, and before it, with "UspS3Metrics
 * On", the list of the buckets for the status page.
 *
 * The process starts as root and changes to the user of httpd's children itself, after it has read all it needs and before it
 * opens the files that settings name. It cannot do so here, before exec: a process that changed its user is protected from
 * that user's other processes (ptrace, /proc/PID/mem), such as CGI scripts; a program that it executes is not.
 */

#include "log_codes.h"
#include "metrics.h"
#include "mod_usp_s3.h"

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

/* Seconds after which the process is killed: a start must not wait for a file on a server that does not respond. */
#define TIMEOUT_SECONDS 30
/* More bytes than any output has. */
#define MAX_OUTPUT_SIZE (16 * 1024 * 1024)
/* The end of a complete output. */
#define END_MARK "end"
/* The list of a configuration without a bucket. */
#define NO_BUCKETS "{\"buckets\":[],\"omitted\":0}"

/* The environment variable with the number of the socket for which "usp-s3" wants the configuration. */
#define CONFIGURATION_FD "USP_S3_CONFIGURATION_FD"

extern char **environ;

/* ---------------------------------------------------------------- the input: the configuration */

/* Whether a directive sets a variable whose name begins with S3. */
static int is_setting(const ap_directive_t *directive)
{
    const char *name = directive->args;

    if (ap_cstr_casecmp(directive->directive, "SetEnv") != 0 && ap_cstr_casecmp(directive->directive, "PassEnv") != 0)
        return 0;
    if (strncasecmp(name + strspn(name, "\"'"), "S3", 2) == 0)
        return 1;
    while ((name = strpbrk(name, " \t"))) { /* PassEnv has several names; for SetEnv this may be the value */
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

/* If bytes is NULL, the length is only measured. */
typedef struct {
    char *bytes;
    apr_size_t length;
} buffer;

/* A field is terminated by a zero byte, so nothing needs to be escaped. */
static void append(buffer *to, const char *field)
{
    apr_size_t size = strlen(field) + 1;

    if (to->bytes)
        memcpy(to->bytes + to->length, field, size);
    to->length += size;
}

static void append_number(buffer *to, long number)
{
    char text[24];

    apr_snprintf(text, sizeof(text), "%ld", number);
    append(to, text);
}

static void append_directives(buffer *to, const ap_directive_t *directive, int depth)
{
    for (; directive; directive = directive->next) {
        append_number(to, depth);
        append(to, directive->filename ? directive->filename : "");
        append_number(to, directive->line_num);
        append(to, directive->directive);
        append(to, directive->args ? directive->args : "");
        append_directives(to, directive->first_child, depth + 1);
    }
}

/* As usp_s3_wsgi/configtest parses it. */
static void append_configuration(buffer *to, int is_test)
{
    append(to, is_test ? "test" : "start");
    append_number(to, (long)ap_unixd_config.user_id);
    append_number(to, (long)ap_unixd_config.group_id);
    append(to, ap_unixd_config.user_name ? ap_unixd_config.user_name : "");
    append(to, ap_unixd_config.chroot_dir ? ap_unixd_config.chroot_dir : "");
    append(to, !is_test && usp_s3_is_recording() ? "list buckets" : "");
    append(to, ap_server_root ? ap_server_root : "");
    append_directives(to, ap_conftree, 0);
}

/* ---------------------------------------------------------------- the process */

/* The parent directory of a path, or NULL. */
static char *parent(apr_pool_t *pool, const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash && slash != path ? apr_pstrmemdup(pool, path, (apr_size_t)(slash - path)) : NULL;
}

/* The directory of this shared object, which is the Python package. */
static char *package_directory(apr_pool_t *pool)
{
    Dl_info info;
    char *real, *directory;

    if (!dladdr(&usp_s3_module, &info) || !info.dli_fname || !(real = realpath(info.dli_fname, NULL)))
        return NULL;
    directory = parent(pool, real);
    free(real);
    return directory;
}

/* As "usp-s3 apache-config" defines it, else that of the package's environment: PREFIX/lib/python3.x/site-packages. */
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

/* Restore the default signal handlers, and leave httpd's process group, whose signals are not for this process. */
static void detach_from_httpd(void)
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

/* Between fork and exec: system calls only. All of httpd's files are closed, its terminal too. */
static void exec_check(char *const *arguments, int channel)
{
    int null;

    detach_from_httpd();
    channel = fcntl(channel, F_DUPFD, 3); /* httpd may have been started without files 0 to 2 */
    null = open("/dev/null", O_WRONLY);
    null = null >= 0 ? fcntl(null, F_DUPFD, 3) : -1;
    if (channel >= 0 && null >= 0 && dup2(channel, 0) == 0 && dup2(channel, 1) == 1 && dup2(null, 2) == 2) {
        close_from(3);
        execve(arguments[0], arguments, environ);
    }
    _exit(127);
}

/* Milliseconds of the monotonic clock. */
static long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/*
 * Send the configuration and read the output at the same time, so that neither side waits for the other to read. Returns
 * NULL, or an error message if the output is not complete.
 */
static const char *exchange(int channel, const buffer *configuration, buffer *output, long long deadline)
{
    apr_size_t sent = 0, room = 65536;

    output->length = 0;
    output->bytes = malloc(room);
    while (output->bytes) {
        struct pollfd poll_for = {channel, (short)(POLLIN | (sent < configuration->length ? POLLOUT : 0)), 0};
        long long left = deadline - now();
        ssize_t count;

        if (left <= 0)
            return "the check timed out";
        if (poll(&poll_for, 1, (int)left) < 0 && errno != EINTR)
            return "poll failed";
        if (sent < configuration->length) {
            count = send(channel, configuration->bytes + sent, configuration->length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (count > 0)
                sent += (apr_size_t)count;
            else if (errno == EPIPE || errno == ECONNRESET)
                sent = configuration->length; /* the process has exited; its output can still be read */
            if (sent == configuration->length)
                shutdown(channel, SHUT_WR);
        }
        count = recv(channel, output->bytes + output->length, room - output->length, MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            break;
        if (count < 0)
            continue;
        output->length += (apr_size_t)count;
        if (output->length == room) {
            char *larger = room < MAX_OUTPUT_SIZE ? realloc(output->bytes, room *= 2) : NULL;

            if (!larger)
                return "the check has too much output";
            output->bytes = larger;
        }
    }
    if (output->length < sizeof(END_MARK)
        || memcmp(output->bytes + output->length - sizeof(END_MARK), END_MARK, sizeof(END_MARK)) != 0)
        return "the check failed";
    return NULL;
}

/* Wait until the process exits, and kill it at the deadline. */
static void wait_for_exit(pid_t process, long long deadline)
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

/* Run the check. Returns NULL, or an error message if there is no complete output. */
static const char *run_check(apr_pool_t *pool, const buffer *configuration, buffer *output)
{
    const char *package = package_directory(pool), *python = python_program(pool, package), *error;
    char *script = package ? apr_pstrcat(pool, package, "/configtest/__main__.py", NULL) : NULL;
    /* Isolated from environment variables, the current directory and site's startup files. No bytecode is written. */
    char *const arguments[] = {(char *)python, "-I", "-S", "-B", script, NULL};
    long long deadline = now() + TIMEOUT_SECONDS * 1000;
    int channel[2];
    pid_t process;

    if (!script || access(script, R_OK) != 0)
        return "usp_s3_wsgi/configtest is not installed beside usp_s3_module";
    if (!python || access(python, X_OK) != 0)
        return apr_psprintf(pool, "cannot find Python: %s", python ? python : "USP_S3_PYTHON_HOME is not defined");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0)
        return "socketpair failed";
    process = fork();
    if (process == 0)
        exec_check(arguments, channel[1]);
    close(channel[1]);
    if (process < 0) {
        close(channel[0]);
        return "fork failed";
    }
    error = exchange(channel[0], configuration, output, deadline);
    close(channel[0]);
    wait_for_exit(process, error ? now() : deadline);
    return error;
}

/* ---------------------------------------------------------------- the output: findings */

/* As httpd's own errors: with -t on the terminal, without the time; else in the error log. */
static void log_line(server_rec *server, int is_test, int level, const char *line)
{
    if (is_test)
        ap_log_error(APLOG_MARK, APLOG_STARTUP | level, 0, NULL, "%s", line);
    else
        ap_log_error(APLOG_MARK, level, 0, server, "%s", line);
}

/*
 * A finding has five fields: error or warning, file, line, code, text. Returns the number of errors. The error log shows the
 * level of a line, the terminal does not.
 */
static int log_findings(apr_pool_t *pool, server_rec *server, int is_test, const char *field, const char *end)
{
    int errors = 0;

    while (field < end) {
        const char *fields[5], *location;
        int i, is_error;

        for (i = 0; i < 5 && field < end; i++, field += strlen(field) + 1)
            fields[i] = field;
        if (i < 5)
            break;
        is_error = strcmp(fields[0], "error") == 0;
        errors += is_error;
        location = *fields[1] ? apr_psprintf(pool, "%s:%s: ", fields[1], fields[2]) : "";
        if (is_test && !is_error)
            location = apr_pstrcat(pool, location, "warning: ", NULL);
        log_line(server, is_test, is_error ? APLOG_ERR : APLOG_WARNING,
                 apr_pstrcat(pool, fields[3], ": usp_s3_wsgi: ", location, fields[4], NULL));
    }
    return errors;
}

static buffer read_configuration(apr_pool_t *pool, int is_test)
{
    buffer configuration = {NULL, 0};

    append_configuration(&configuration, is_test);
    configuration.bytes = apr_palloc(pool, configuration.length);
    configuration.length = 0;
    append_configuration(&configuration, is_test);
    return configuration;
}

/* Check the settings and log the findings. Returns the number of errors. */
static int check(apr_pool_t *pool, server_rec *server, int is_test)
{
    buffer configuration = read_configuration(pool, is_test), output = {NULL, 0};
    const char *error;
    int errors = 0;

    if ((error = run_check(pool, &configuration, &output))) {
        if (!is_test)
            usp_s3_store_configured_buckets("");
        log_line(server, is_test, APLOG_WARNING,
                 apr_pstrcat(pool, USP_S3_LOGNO(USP_S3_CODE_NOT_CHECKED) "could not check the S3 settings: ", error, NULL));
    }
    else {
        const char *end = output.bytes + output.length - sizeof(END_MARK);
        apr_size_t length = strlen(output.bytes); /* of the list of buckets, the first field */

        if (length)
            usp_s3_store_configured_buckets(output.bytes);
        errors = log_findings(pool, server, is_test, output.bytes + length + 1, end);
    }
    free(output.bytes);
    memset(configuration.bytes, 0, configuration.length);
    return errors;
}

/* A process that outlives httpd must not keep its listening sockets: another httpd could not listen there. */
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

/* httpd calls this when the process has exited. */
static void unregister_process(int reason, void *process, int status)
{
    (void)status;
    if (reason == APR_OC_REASON_DEATH || reason == APR_OC_REASON_LOST)
        apr_proc_other_child_unregister(process);
}

static void check_and_exit(apr_pool_t *pool, server_rec *server)
{
    detach_from_httpd();
    close_listeners();
    setpriority(PRIO_PROCESS, 0, 10); /* httpd's children have priority */
    check(pool, server, 0);
    _exit(0);
}

/*
 * A restart does not wait for the check: the old children have exited already. httpd warns about child processes that it does
 * not know, so the process is a grandchild. If httpd is process 1 of a container, which inherits grandchildren, the process is
 * a child that is registered with httpd.
 */
static void check_in_background(apr_pool_t *config, apr_pool_t *temporary, server_rec *server)
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
        apr_proc_other_child_register(process, unregister_process, process, NULL, config);
    else {
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
}

/*
 * The socket for which "usp-s3" wants the configuration, if it has started this "httpd -t"; else -1. Not standard output: the
 * configuration contains secrets.
 */
static int requested_channel(void)
{
    const char *text = getenv(CONFIGURATION_FD);
    int fd = text ? atoi(text) : -1, type = 0;
    socklen_t size = sizeof(type);

    return fd > 2 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM ? fd : -1;
}

/* The other end reads until the connection is closed. */
static void send_configuration(apr_pool_t *pool, int channel)
{
    buffer configuration = read_configuration(pool, 1);
    apr_size_t sent = 0;

    while (sent < configuration.length) {
        ssize_t count = send(channel, configuration.bytes + sent, configuration.length - sent, MSG_NOSIGNAL);

        if (count < 0 && errno != EINTR)
            break; /* "usp-s3" is gone, or finds that the configuration is truncated */
        sent += count > 0 ? (apr_size_t)count : 0;
    }
    memset(configuration.bytes, 0, configuration.length);
}

static int is_restart(void)
{
    return ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_NORMAL && ap_state_query(AP_SQ_CONFIG_GEN) > 1;
}

/*
 * Hook check_config. An error makes "httpd -t" fail, so that a reload that tests first is not done. It does not make a start or
 * a restart fail: a missing secret file must not take down the other sites of the server, and an error of this hook at a
 * graceful restart ends httpd.
 */
static int check_in_test(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    int channel;

    (void)config;
    (void)log;
    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_CONFIG_TEST)
        return OK;
    if ((channel = requested_channel()) >= 0) {
        send_configuration(temporary, channel); /* "usp-s3" checks it itself */
        return OK;
    }
    if (!has_settings(ap_conftree))
        return OK;
    return check(temporary, server, 1) ? HTTP_INTERNAL_SERVER_ERROR : OK;
}

/* Hook check_config. */
static int wait_at_restart(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    (void)config;
    (void)log;
    (void)temporary;
    (void)server;
    if (is_restart() && has_settings(ap_conftree))
        usp_s3_wait_for_exiting_children();
    return OK;
}

/*
 * Hook post_config: the error log is open. Before, a line would go to the program of the last configuration's piped log, which
 * httpd ends whether it has read the line or not. A start reads the configuration twice.
 */
static int check_at_start(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    int is_first_read = ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG;

    (void)log;
    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_NORMAL || is_first_read)
        return OK;
    if (!has_settings(ap_conftree)) {
        usp_s3_store_configured_buckets(NO_BUCKETS);
        return OK;
    }
    if (is_restart())
        check_in_background(config, temporary, server);
    else
        check(temporary, server, 0);
    return OK;
}

void usp_s3_register_configtest(void)
{
    ap_hook_check_config(check_in_test, NULL, NULL, APR_HOOK_LAST);
    ap_hook_check_config(wait_at_restart, NULL, NULL, APR_HOOK_LAST);
    ap_hook_post_config(check_at_start, NULL, NULL, APR_HOOK_REALLY_LAST);
}
