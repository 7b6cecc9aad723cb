/*
 * What the operator says of a request: the trust boundary.
 *
 * The operator writes httpd's own files. A request's environment also holds what others have written: an .htaccess file, the
 * page around a subrequest, the directory that an internal fast redirect came from. Here the operator's variables are told
 * from theirs, once for each request. Nobody else's environment is changed.
 *
 *   post_read_request  SetEnvIf of servers has run: what it has set counts for subrequests, too
 *   map_to_storage     RewriteRule [E=] of servers has run; no .htaccess file has been read yet
 *   fixups             the rules of sections have run: decide, and keep the result in the per-directory configuration, which
 *                      is what a fast redirect takes over from the request that it found
 *   insert_filter      hand the settings to the gateway, in one variable with a proof that no page can know
 *   handler            hide the keys when the gateway has had them
 */

#include "_httpd.h"

#define SERVED_PATH "USP_S3_PATH"
#define SETTINGS "USP_S3_SETTINGS"
#define PROOF_SIZE 16

static module *env_module, *setenvif_module, *rewrite_module, *mime_module;
static char proof[2 * PROOF_SIZE + 1];

/* ---------------------------------------------------------------- variables */

/*
 * Not r->subprocess_env, which also holds what a page around a subrequest had. These two tables are the first members of
 * mod_env's configuration, which no header declares; they have been that since httpd 1.3.
 */
typedef struct {
    apr_table_t *vars;
    apr_table_t *unsetenv;
} env_config;

const apr_array_header_t *usp_s3_variables(ap_conf_vector_t *config)
{
    env_config *env = env_module ? ap_get_module_config(config, env_module) : NULL;
    return env && env->vars ? apr_table_elts(env->vars) : NULL;
}

const apr_array_header_t *usp_s3_unset_variables(ap_conf_vector_t *config)
{
    env_config *env = env_module ? ap_get_module_config(config, env_module) : NULL;
    return env && env->unsetenv ? apr_table_elts(env->unsetenv) : NULL;
}

int usp_s3_holds_value(const apr_array_header_t *all, const char *value)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        if (APR_ARRAY_IDX(all, i, apr_table_entry_t).val == value)
            return 1;
    }
    return 0;
}

/* A setting, or the path that is served: what this package believes of an environment. */
static int is_believed(const apr_table_entry_t *entry)
{
    return usp_s3_may_be_setting(entry) || ap_cstr_casecmp(entry->key, SERVED_PATH) == 0;
}

/* What changes a request: other variables that begin with S3 are another program's, or misspelt. */
static int is_decisive(const apr_table_entry_t *entry)
{
    return usp_s3_is_setting(entry) || ap_cstr_casecmp(entry->key, SERVED_PATH) == 0;
}

/* ---------------------------------------------------------------- what servers say */

usp_s3_request *usp_s3_request_of(request_rec *r)
{
    usp_s3_request *request = ap_get_module_config(r->request_config, &usp_s3_module);

    if (!request) {
        request = apr_pcalloc(r->pool, sizeof(*request));
        ap_set_module_config(r->request_config, &usp_s3_module, request);
    }
    return request;
}

signed_request *usp_s3_sent(request_rec *r)
{
    usp_s3_request *request = ap_get_module_config(r->request_config, &usp_s3_module);

    return request ? request->sent : NULL;
}

/* The entries of the environment that are believed, NULL for none. */
static apr_array_header_t *believed(request_rec *r)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    apr_array_header_t *found = NULL;
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (!is_believed(entry))
            continue;
        if (!found)
            found = apr_array_make(r->pool, 4, sizeof(apr_table_entry_t));
        APR_ARRAY_PUSH(found, apr_table_entry_t) = *entry;
    }
    return found;
}

/* Whether a variable was a setting before an internal redirect, which writes REDIRECT_ before each name. */
static int was_setting(const char *name)
{
    apr_table_entry_t entry = {.key = (char *)name};

    while (ap_cstr_casecmpn(entry.key, "REDIRECT_", 9) == 0)
        entry.key += 9;
    return entry.key != name && (usp_s3_is_setting(&entry) || ap_cstr_casecmp(entry.key, SETTINGS) == 0);
}

/* What rules of the server have set is not for the CGI scripts and printenv of an error page, which is another author's. */
static void forget_settings(request_rec *r)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    apr_table_t *kept = apr_table_make(r->pool, all->nelts);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (!was_setting(entry->key))
            apr_table_addn(kept, entry->key, entry->val);
    }
    r->subprocess_env = kept;
}

/* Run for internal redirects, too, whose environment begins anew: what was in it has REDIRECT_ before its name. */
static int server_was_read(request_rec *r)
{
    usp_s3_request *before = r->prev ? ap_get_module_config(r->prev->request_config, &usp_s3_module) : NULL;
    apr_array_header_t *found;

    if (before && (before->of_server || before->mapped))
        forget_settings(r);
    if ((found = believed(r)))
        usp_s3_request_of(r)->of_server = found;
    return DECLINED;
}

static int server_has_mapped(request_rec *r)
{
    apr_array_header_t *found = believed(r);

    if (found)
        usp_s3_request_of(r)->mapped = found;
    if (r->filename && strncmp(r->filename, "proxy:", 6) == 0)
        usp_s3_request_of(r)->mapped_url = apr_pstrdup(r->pool, r->filename + 6);
    return DECLINED;
}

/* ---------------------------------------------------------------- .htaccess files */

/* Whether something is so of a configuration, or of a section in it. */
static int any(ap_conf_vector_t *config, int (*is_so)(ap_conf_vector_t *, const void *), const void *of)
{
    core_dir_config *core = ap_get_core_module_config(config);
    apr_array_header_t *inner[] = {core ? core->sec_file : NULL, core ? core->sec_if : NULL};
    int i, j;

    if (is_so(config, of))
        return 1;
    for (i = 0; i < 2; i++) {
        for (j = 0; inner[i] && j < inner[i]->nelts; j++) {
            if (any(APR_ARRAY_IDX(inner[i], j, ap_conf_vector_t *), is_so, of))
                return 1;
        }
    }
    return 0;
}

static int has_value(ap_conf_vector_t *config, const void *value)
{
    return usp_s3_holds_value(usp_s3_variables(config), value);
}

/* Whether a setting is unset: in an <If>, that would count after all that the operator has set. */
static int unsets(ap_conf_vector_t *config, const void *unused)
{
    const apr_array_header_t *all = usp_s3_unset_variables(config);
    int i;

    (void)unused;
    for (i = 0; all && i < all->nelts; i++) {
        if (usp_s3_is_setting(&APR_ARRAY_IDX(all, i, apr_table_entry_t)))
            return 1;
    }
    return 0;
}

/* Whether there is a directive of a module: a configuration that is read has nothing of the others. */
static int has_module(ap_conf_vector_t *config, const void *of)
{
    return of && ap_get_module_config(config, (const module *)of) != NULL;
}

static int has_handler(ap_conf_vector_t *config, const void *handler)
{
    const core_dir_config *core = ap_get_core_module_config(config);

    return core && (core->handler == handler || core->expr_handler == handler);
}

static int is_proxied(request_rec *r)
{
    return (r->filename && strncmp(r->filename, "proxy:", 6) == 0) || (r->handler && strncmp(r->handler, "proxy:", 6) == 0);
}

/* Whether an .htaccess file is about this request: the list also has those of the page around a subrequest. */
static int is_about(request_rec *r, const struct htaccess_result *file)
{
    /* A proxied request has lost the name of its file. */
    return is_proxied(r) || (r->filename && strncmp(r->filename, file->dir, strlen(file->dir)) == 0);
}

/* The folder whose .htaccess file may have set variables of this request by rules; NULL for none. */
static const char *folder_with_rules(request_rec *r)
{
    const struct htaccess_result *file;

    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess && is_about(r, file)
            && (any(file->htaccess, has_module, setenvif_module) || any(file->htaccess, has_module, rewrite_module)))
            return file->dir;
    }
    return NULL;
}

static const char *refusal_of_unset(request_rec *r)
{
    const struct htaccess_result *file;

    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess && is_about(r, file) && any(file->htaccess, unsets, NULL))
            return apr_psprintf(r->pool, "an .htaccess file of %s has UnsetEnv of a setting: that belongs into httpd's own files",
                                file->dir);
    }
    return NULL;
}

/* Why a value of SetEnv or PassEnv is not the operator's; NULL where it is. */
static const char *refusal_of(request_rec *r, const apr_table_entry_t *entry)
{
    const struct htaccess_result *file;

    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess && any(file->htaccess, has_value, entry->val))
            return apr_psprintf(r->pool, "%s is set in an .htaccess file of %s: settings belong into httpd's own files",
                                entry->key, file->dir);
    }
    return NULL;
}

/* Whether a <Location> of the request has rules: they take the place of an .htaccess file's. */
static int has_location_with_rules(request_rec *r)
{
    core_server_config *server = ap_get_core_module_config(r->server->module_config);
    int i;

    for (i = 0; i < server->sec_url->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(server->sec_url, i, ap_conf_vector_t *);

        if (has_module(section, rewrite_module) && usp_s3_is_location_of(section, r->uri))
            return 1;
    }
    return 0;
}

/*
 * The folder whose .htaccess file may have made the URL that mod_proxy is to send: by RewriteRule [P], where no <Location> has
 * rules that take the place of its own; by SetHandler; or by AddHandler, where nothing else has set the handler. NULL for none.
 */
static const char *folder_of_author(request_rec *r)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const void *handler = core->expr_handler ? (const void *)core->expr_handler : (const void *)core->handler;
    int by_rule = strncmp(r->handler ? r->handler : "", "proxy:", 6) != 0 || apr_table_get(r->notes, "rewrite-forced-handler");
    const struct htaccess_result *file;

    if (by_rule && has_location_with_rules(r))
        return NULL;
    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess
            && (by_rule ? any(file->htaccess, has_module, rewrite_module)
                : handler ? any(file->htaccess, has_handler, handler) : any(file->htaccess, has_module, mime_module)))
            return file->dir;
    }
    return NULL;
}

/* ---------------------------------------------------------------- the decision */

/* What a subrequest has only because its page has it: the very same string. */
static int is_inherited(request_rec *r, const char *value)
{
    return r->main && usp_s3_holds_value(apr_table_elts(r->main->subprocess_env), value);
}

static void add_rules(request_rec *r, usp_s3_operator *operator)
{
    usp_s3_request *client = ap_get_module_config(usp_s3_client(r)->request_config, &usp_s3_module);
    usp_s3_request *own = ap_get_module_config(r->request_config, &usp_s3_module);
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env), *mapped = own ? own->mapped : NULL;
    int i;

    /* SetEnvIf of servers does not run again for a subrequest. */
    if (r->main && !r->prev && client && client->of_server)
        apr_array_cat(operator->rules, client->of_server);
    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);
        const char *folder;

        if (!is_believed(entry) || is_inherited(r, entry->val)
            || usp_s3_holds_value(usp_s3_variables(r->per_dir_config), entry->val))
            continue;
        if (!usp_s3_holds_value(mapped, entry->val) && (folder = folder_with_rules(r))) {
            if (!operator->refusal && is_decisive(entry))
                operator->refusal = apr_psprintf(
                    r->pool, "%s is set by a rule, and an .htaccess file of %s has rules: it may be the author's",
                    entry->key, folder);
            continue;
        }
        APR_ARRAY_PUSH(operator->rules, apr_table_entry_t) = *entry;
    }
}

/* Whether a rule of the server has led to the URL that mod_proxy is to send. */
static int is_mapped(request_rec *r)
{
    usp_s3_request *request = ap_get_module_config(r->request_config, &usp_s3_module);

    return request && request->mapped_url;
}

static usp_s3_operator *decide_operator(request_rec *r)
{
    usp_s3_operator *operator = apr_pcalloc(r->pool, sizeof(*operator));
    const apr_array_header_t *all = usp_s3_variables(r->per_dir_config);
    const char *folder;
    int i;

    operator->rules = apr_array_make(r->pool, 4, sizeof(apr_table_entry_t));
    operator->refusal = refusal_of_unset(r);
    for (i = 0; all && i < all->nelts && !operator->refusal; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_decisive(entry))
            operator->refusal = refusal_of(r, entry);
    }
    add_rules(r, operator);
    if (is_proxied(r) && !is_mapped(r) && (folder = folder_of_author(r)))
        operator->is_authors = apr_psprintf(
            r->pool, "an .htaccess file of %s may have led here: what leads to a bucket belongs into httpd's own files", folder);
    return operator;
}

static int holds_believed(const apr_array_header_t *all)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        if (is_believed(&APR_ARRAY_IDX(all, i, apr_table_entry_t)))
            return 1;
    }
    return 0;
}

const usp_s3_operator *usp_s3_operator_of(request_rec *r)
{
    static const usp_s3_operator silent;
    usp_s3_operator *operator = ap_get_module_config(r->per_dir_config, &usp_s3_module);
    ap_conf_vector_t *own;

    if (!operator) {
        if (!holds_believed(usp_s3_variables(r->per_dir_config)) && !holds_believed(apr_table_elts(r->subprocess_env))
            && (!r->htaccess || !is_proxied(r)))
            return &silent;
        operator = decide_operator(r);
        own = ap_create_per_dir_config(r->pool);
        ap_set_module_config(own, &usp_s3_module, operator);
        r->per_dir_config = ap_merge_per_dir_configs(r->pool, r->per_dir_config, own);
    }
    return operator;
}

/* What is left in the environment of a request is read by whoever makes something of its answer: SSI in an object, Header. */
void usp_s3_hide_secrets(request_rec *r)
{
    static const char *const secrets[] = {
        "S3AccessKey", "S3SecretKey", "S3SecurityToken", "S3RoleExternalId", "S3FallbackAccessKey", "S3FallbackSecretKey",
        "S3FallbackSecurityToken", "S3FallbackRoleExternalId", SETTINGS, NULL};
    const char *const *name;

    for (name = secrets; *name; name++)
        apr_table_unset(r->subprocess_env, *name);
}

static int is_wsgi(request_rec *r)
{
    return r->handler && (strcmp(r->handler, "wsgi-script") == 0 || strcmp(r->handler, "application/x-httpd-wsgi") == 0);
}

/* Other requests are left as they are. */
static int decide_in_fixups(request_rec *r)
{
    if (is_wsgi(r) || is_proxied(r))
        usp_s3_operator_of(r);
    return DECLINED;
}

/* ---------------------------------------------------------------- to the gateway */

int usp_s3_is_gateway(request_rec *r)
{
    return is_wsgi(r)
           && (usp_s3_has_settings(r->per_dir_config) || usp_s3_holds_setting(usp_s3_operator_of(r)->rules));
}

/* Text that grows. */
typedef struct {
    apr_pool_t *pool;
    char *bytes;
    apr_size_t length, size;
} text;

static void append(text *to, const char *bytes, apr_size_t length)
{
    if (to->length + length > to->size) {
        apr_size_t size = 2 * (to->length + length) + 512;
        char *larger = apr_palloc(to->pool, size);

        if (to->length)
            memcpy(larger, to->bytes, to->length);
        to->bytes = larger;
        to->size = size;
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

/* A value may be anything, so its length comes before it. https://cr.yp.to/proto/netstrings.txt */
static void append_netstring(text *to, const char *bytes, apr_size_t length)
{
    char digits[24];

    append(to, digits, (apr_size_t)apr_snprintf(digits, sizeof(digits), "%" APR_SIZE_T_FMT ":", length));
    append(to, bytes, length);
    append(to, ",", 1);
}

static void append_pair(text *to, const char *name, const char *value)
{
    append_netstring(to, name, strlen(name));
    append_netstring(to, value, strlen(value));
}

static void append_variables(text *settings, text *control, const apr_array_header_t *all)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (usp_s3_may_be_setting(entry))
            append_pair(settings, entry->key, entry->val);
        else if (is_believed(entry))
            append_pair(control, "served path", entry->val);
    }
}

/* Whether what comes after the mount is of the request's own path: mod_include gives "exec cgi" the end of its page's. */
static int has_own_path(request_rec *r)
{
    char *path = apr_pstrdup(r->pool, r->uri), *end = apr_pstrdup(r->pool, r->path_info ? r->path_info : "");
    size_t length;

    ap_no2slash(path);
    ap_no2slash(end);
    length = strlen(path);
    return strlen(end) <= length && strcmp(path + length - strlen(end), end) == 0;
}

/*
 * The proof and two netstrings, as trust_boundary.py reads them: the settings, which are the same for all requests of a place,
 * and what is about this request alone. Each holds a netstring for each name and each value.
 */
static void hand_over(request_rec *r)
{
    text settings = {.pool = r->pool}, control = {.pool = r->pool}, all = {.pool = r->pool};
    const usp_s3_operator *operator;

    /* What httpd sets only where a request has such: a page's own would take its place. */
    static const char *const of_request[] = {"PATH_INFO", "HTTP_RANGE", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH",
                                             "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE", NULL};
    const char *const *name;

    apr_table_unset(r->subprocess_env, SETTINGS);
    if (!usp_s3_is_gateway(r))
        return;
    for (name = of_request; *name; name++)
        apr_table_unset(r->subprocess_env, *name);
    operator = usp_s3_operator_of(r);
    /* Those of sections last, as in the environment: they win. */
    append_variables(&settings, &control, operator->rules);
    append_variables(&settings, &control, usp_s3_variables(r->per_dir_config));
    if (operator->refusal)
        append_pair(&control, "refusal", operator->refusal);
    else if (!has_own_path(r))
        append_pair(&control, "refusal", "the path is not the one that access rules have seen (exec cgi)");
    if (r->prev && ap_is_HTTP_ERROR(r->status))
        append_pair(&control, "error status", apr_itoa(r->pool, r->status));
    if (APLOG_R_IS_LEVEL(r, APLOG_DEBUG))
        append_pair(&control, "debug", "");
    append(&all, proof, strlen(proof));
    append_netstring(&all, settings.bytes, settings.length);
    append_netstring(&all, control.bytes, control.length);
    append(&all, "", 1);
    apr_table_setn(r->subprocess_env, SETTINGS, all.bytes);
}

/* Around the handler of the gateway: where it leaves the answer to httpd, nothing has passed the filter that hides its keys. */
static int handle(request_rec *r)
{
    usp_s3_request *request = usp_s3_is_gateway(r) ? usp_s3_request_of(r) : NULL;
    int status;

    if (!request || request->is_handled)
        return DECLINED;
    request->is_handled = 1;
    status = ap_run_handler(r);
    usp_s3_hide_secrets(r);
    return status;
}

const char *usp_s3_proof(void)
{
    return *proof ? proof : NULL;
}

/* Before mod_wsgi forks its daemons, and anew at each start: what a page may have seen of an older one is void. */
static int prepare(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    unsigned char random[PROOF_SIZE];
    apr_status_t status = apr_generate_random_bytes(random, sizeof(random));

    (void)log;
    (void)temporary;
    if (status != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, status, server, "usp_s3_wsgi: there are no random bytes");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_bin2hex(random, sizeof(random), proof);
    env_module = ap_find_linked_module("mod_env.c");
    setenvif_module = ap_find_linked_module("mod_setenvif.c");
    rewrite_module = ap_find_linked_module("mod_rewrite.c");
    mime_module = ap_find_linked_module("mod_mime.c");
    usp_s3_find_computed(config);
    return OK;
}

void usp_s3_register_operator(void)
{
    ap_hook_post_config(prepare, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_read_request(server_was_read, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_map_to_storage(server_has_mapped, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(decide_in_fixups, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_insert_filter(hand_over, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_handler(handle, NULL, NULL, APR_HOOK_REALLY_FIRST);
}
