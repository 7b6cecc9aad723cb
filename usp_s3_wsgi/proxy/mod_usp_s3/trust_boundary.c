/*
 * What the operator says of a request: the trust boundary.
 *
 * The operator writes httpd's own files. A request's environment also holds what others have written: an .htaccess file, the
 * page around a subrequest, the directory that an internal fast redirect came from. Here the operator's variables are told
 * from theirs, once for each request. Nobody else's environment is changed.
 *
 *   post_read_request  SetEnvIf of servers has run: what it has set counts for subrequests, too
 *   map_to_storage     RewriteRule [E=] of servers has run; no .htaccess file has been read yet
 *   fixups             the rules of sections have run: decide, keep the result in the per-directory configuration, which is
 *                      what a fast redirect takes over from the request that it found, and hide the keys
 *   insert_filter      hand the settings to the gateway, in one variable with a proof that no page can know
 *   handler            hide that, too, when the gateway has had it
 */

#include "mod_usp_s3.h"

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

int usp_s3_holds(const apr_array_header_t *all, const apr_table_entry_t *wanted)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        /* The key, too: what is empty is one string for mod_env. */
        if (entry->val == wanted->val && ap_cstr_casecmp(entry->key, wanted->key) == 0)
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
    return usp_s3_is_setting(entry, 0) || ap_cstr_casecmp(entry->key, SERVED_PATH) == 0;
}

static int begins(const char *text, const char *with)
{
    return text && strncmp(text, with, strlen(with)) == 0;
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

const char *usp_s3_mapped_url(request_rec *r)
{
    usp_s3_request *request = ap_get_module_config(r->request_config, &usp_s3_module);

    return request ? request->mapped_url : NULL;
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
    return entry.key != name && (usp_s3_is_setting(&entry, 1) || ap_cstr_casecmp(entry.key, SETTINGS) == 0);
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
    if (begins(r->filename, "proxy:"))
        usp_s3_request_of(r)->mapped_url = apr_pstrdup(r->pool, r->filename + 6); /* mod_proxy may write into that */
    return DECLINED;
}

/* ---------------------------------------------------------------- .htaccess files */

/* Whether something is so of a configuration, or of a section in it. */
int usp_s3_any(ap_conf_vector_t *config, int (*is_so)(ap_conf_vector_t *, const void *), const void *of)
{
    core_dir_config *core = ap_get_core_module_config(config);
    apr_array_header_t *inner[] = {core ? core->sec_file : NULL, core ? core->sec_if : NULL};
    int i, j;

    if (is_so(config, of))
        return 1;
    for (i = 0; i < 2; i++) {
        for (j = 0; inner[i] && j < inner[i]->nelts; j++) {
            if (usp_s3_any(APR_ARRAY_IDX(inner[i], j, ap_conf_vector_t *), is_so, of))
                return 1;
        }
    }
    return 0;
}

int usp_s3_has_entry(ap_conf_vector_t *config, const void *entry)
{
    return usp_s3_holds(usp_s3_variables(config), entry);
}

/* Whether a setting is unset: in an <If>, that would count after all that the operator has set. */
static int unsets(ap_conf_vector_t *config, const void *unused)
{
    (void)unused;
    return usp_s3_holds_setting(usp_s3_unset_variables(config));
}

/* Whether there is a directive of a module: a configuration that is read has nothing of the others. */
static int has_module(ap_conf_vector_t *config, const void *of)
{
    return of && ap_get_module_config(config, (const module *)of) != NULL;
}

int usp_s3_computes(ap_conf_vector_t *config)
{
    return has_module(config, setenvif_module) || has_module(config, rewrite_module);
}

static int computes(ap_conf_vector_t *config, const void *unused)
{
    (void)unused;
    return usp_s3_computes(config);
}

/* Whether SetHandler is this very one. */
static int has_handler(ap_conf_vector_t *config, const void *handler)
{
    const core_dir_config *core = ap_get_core_module_config(config);

    return core && core->expr_handler == handler;
}

/* Whether there is a directive by which a handler or a content type may be chosen. */
static int chooses_handler(ap_conf_vector_t *config, const void *unused)
{
    const core_dir_config *core = ap_get_core_module_config(config);

    (void)unused;
    return (core && (core->expr_handler || core->handler || core->mime_type)) || has_module(config, mime_module)
           || has_module(config, rewrite_module);
}

/* Whether a file is in a folder, which may have been asked for without its slash. What has lost its name may be in any. */
static int is_in_folder(const char *name, const char *folder)
{
    size_t length = strlen(folder);

    if (!name || begins(name, "proxy:"))
        return 1;
    while (length && folder[length - 1] == '/')
        length--;
    return strncmp(name, folder, length) == 0 && (name[length] == '/' || !name[length]);
}

/*
 * The folder whose .htaccess file is about this request and has something; NULL for none. The list also has the files of the
 * page around a subrequest, and of the request before a redirect.
 */
static const char *folder_with(request_rec *r, int (*is_so)(ap_conf_vector_t *, const void *), const void *of)
{
    usp_s3_request *request = ap_get_module_config(r->request_config, &usp_s3_module);
    const char *name = request && request->file ? request->file : r->filename;
    const struct htaccess_result *file;

    if (usp_s3_mapped_url(r))
        return NULL; /* no .htaccess file is read for it */
    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess && is_in_folder(name, file->dir) && usp_s3_any(file->htaccess, is_so, of))
            return file->dir;
    }
    return NULL;
}

/* The folder whose .htaccess file has set a variable that was merged into the request; NULL for none. */
static const char *folder_of(const struct htaccess_result *files, const apr_table_entry_t *entry)
{
    for (; files; files = files->next) {
        if (files->htaccess && usp_s3_any(files->htaccess, usp_s3_has_entry, entry))
            return files->dir;
    }
    return NULL;
}

/* ---------------------------------------------------------------- whose URL mod_proxy is to send */

#define DECIDED "usp-s3-decided"
#define AUTHOR "usp-s3-author"

/* "proxy:URL" where a handler leads to mod_proxy, or a content type in its place. A file name that does comes first: NULL. */
static const char *proxy_handler(request_rec *r)
{
    const char *handler = r->handler ? r->handler : r->content_type;

    return begins(handler, "proxy:") && !begins(r->filename, "proxy:") ? handler : NULL;
}

static int is_proxied(request_rec *r)
{
    return begins(r->filename, "proxy:") || proxy_handler(r);
}

/* Whether SetHandler of httpd's own files has chosen the handler. */
static int is_operators_handler(request_rec *r, const char *handler)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const struct htaccess_result *file;
    const char *chosen, *error = NULL;

    if (!core->expr_handler)
        return 0;
    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess && usp_s3_any(file->htaccess, has_handler, core->expr_handler))
            return 0;
    }
    chosen = ap_expr_str_exec(r, core->expr_handler, &error);
    return !error && chosen && ap_cstr_casecmp(chosen, handler) == 0; /* httpd writes it in lowercase */
}

/* Why what mod_proxy is to send may be somebody else's than the operator's, NULL for nothing. */
static const char *author_of(request_rec *r)
{
    const char *handler = proxy_handler(r), *folder;

    if (handler && begins(r->content_type, "proxy:"))
        return "a content type has led here, which may be the author's of a file";
    if (handler && is_operators_handler(r, handler))
        return NULL;
    folder = handler ? folder_with(r, chooses_handler, NULL) : folder_with(r, has_module, rewrite_module);
    if (!folder)
        return NULL;
    return apr_psprintf(r->pool, "an .htaccess file of %s may have led here: what leads to a bucket belongs into httpd's own "
                        "files", folder);
}

/*
 * In notes, which an internal fast redirect takes over from the request that it found: what was decided there holds for that
 * handler and name, and not for others that are chosen since.
 */
static void decide_author(request_rec *r)
{
    const char *what = apr_pstrcat(r->pool, r->handler ? r->handler : "", "\n", r->filename, NULL);
    const char *decided = apr_table_get(r->notes, DECIDED);
    const char *author = usp_s3_mapped_url(r) || (decided && strcmp(decided, what) == 0) ? NULL : author_of(r);

    apr_table_setn(r->notes, DECIDED, what);
    if (author)
        apr_table_setn(r->notes, AUTHOR, author);
}

/* A module that sets the file name of a subrequest does so after fixups, and is the operator's. */
const char *usp_s3_author(request_rec *r)
{
    return apr_table_get(r->notes, AUTHOR);
}

/* ---------------------------------------------------------------- whose variables these are */

/* What a subrequest has only because its page has it: the very same string. */
static int is_inherited(request_rec *r, const apr_table_entry_t *entry)
{
    return r->main && usp_s3_holds(apr_table_elts(r->main->subprocess_env), entry);
}

/* What a rule has computed for this request, or for the client's where it is not computed again. */
static void add_computed(request_rec *r, usp_s3_operator *operator)
{
    usp_s3_request *client = ap_get_module_config(usp_s3_client(r)->request_config, &usp_s3_module);
    usp_s3_request *own = ap_get_module_config(r->request_config, &usp_s3_module);
    const apr_array_header_t *of_server = own ? own->of_server : NULL, *mapped = own ? own->mapped : NULL;
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    const char *folder = NULL, *doubtful = NULL;
    int i;

    /* SetEnvIf of servers does not run again for a subrequest. */
    if (r->main && !r->prev && client && client->of_server)
        apr_array_cat(operator->computed, client->of_server);
    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (!is_believed(entry) || usp_s3_holds(usp_s3_variables(r->per_dir_config), entry)
            || (is_inherited(r, entry) && !usp_s3_holds(of_server, entry)))
            continue;
        if (!usp_s3_holds(mapped, entry) && (folder = folder_with(r, computes, NULL)))
            doubtful = is_decisive(entry) ? entry->key : doubtful;
        else
            APR_ARRAY_PUSH(operator->computed, apr_table_entry_t) = *entry;
    }
    for (i = 0; mapped && i < mapped->nelts && !doubtful; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(mapped, i, apr_table_entry_t);

        if (is_decisive(entry) && !usp_s3_holds(all, entry) && !is_inherited(r, entry)
            && (folder = folder_with(r, computes, NULL)))
            doubtful = entry->key;
    }
    if (doubtful)
        operator->doubt = apr_psprintf(r->pool, "%s is changed by a rule, and an .htaccess file of %s has rules: it may be the "
                                       "author's", doubtful, folder);
}

static usp_s3_operator *decide_operator(request_rec *r)
{
    usp_s3_operator *operator = apr_pcalloc(r->pool, sizeof(*operator));
    const apr_array_header_t *all = usp_s3_variables(r->per_dir_config);
    const char *folder;
    int i;

    operator->files = r->htaccess;
    operator->computed = apr_array_make(r->pool, 4, sizeof(apr_table_entry_t));
    for (i = 0; all && i < all->nelts && !operator->refusal; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_decisive(entry) && (folder = folder_of(operator->files, entry)))
            operator->refusal = apr_psprintf(r->pool, "%s is set in an .htaccess file of %s: settings belong into httpd's own "
                                             "files", entry->key, folder);
    }
    add_computed(r, operator);
    if (!operator->doubt && (folder = folder_with(r, unsets, NULL)))
        operator->doubt = apr_psprintf(r->pool, "an .htaccess file of %s has UnsetEnv of a setting: that belongs into httpd's "
                                       "own files", folder);
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
        /* A fast redirect does not take over the list of files of the subrequest that it found: this brings it along. */
        if (!holds_believed(usp_s3_variables(r->per_dir_config)) && !holds_believed(apr_table_elts(r->subprocess_env))
            && !(r->main && r->htaccess))
            return &silent;
        operator = decide_operator(r);
        own = ap_create_per_dir_config(r->pool);
        ap_set_module_config(own, &usp_s3_module, operator);
        r->per_dir_config = ap_merge_per_dir_configs(r->pool, r->per_dir_config, own);
    }
    return operator;
}

/* ---------------------------------------------------------------- to the gateway */

/* Whether mod_wsgi handles a request; a handler of WSGIHandlerScript has a name that nobody else knows. */
static int is_wsgi(request_rec *r)
{
    const char *handler = r->handler ? r->handler : r->content_type ? r->content_type : "";

    return strcmp(handler, "wsgi-script") == 0 || strcmp(handler, "application/x-httpd-wsgi") == 0
           || begins(handler, "wsgi-handler=");
}

/* A bucket of the gateway has S3BucketURL. */
int usp_s3_is_gateway(request_rec *r)
{
    return is_wsgi(r)
           && (usp_s3_names_bucket(usp_s3_variables(r->per_dir_config))
               || usp_s3_names_bucket(usp_s3_operator_of(r)->computed));
}

static int is_secret(const char *name)
{
    static const char *const secrets[] = {
        "S3AccessKey", "S3SecretKey", "S3SecurityToken", "S3RoleExternalId", "S3FallbackAccessKey", "S3FallbackSecretKey",
        "S3FallbackSecurityToken", "S3FallbackRoleExternalId", NULL};
    const char *const *secret;

    for (secret = secrets; *secret; secret++) {
        if (ap_cstr_casecmp(name, *secret) == 0)
            return 1;
    }
    return 0;
}

static void hide(request_rec *r, const apr_array_header_t *all, const struct htaccess_result *files)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_secret(entry->key) && !folder_of(files, entry)) /* an author may read his own */
            apr_table_unset(r->subprocess_env, entry->key);
    }
}

/*
 * What is in the environment of a request is read by others: by RewriteCond %{LA-U:ENV:...} of an .htaccess file, by SSI in an
 * object, by Header, by the page of an error.
 */
static void hide_secrets(request_rec *r)
{
    const usp_s3_operator *operator = usp_s3_operator_of(r);

    hide(r, usp_s3_variables(r->per_dir_config), operator->files);
    hide(r, operator->computed, operator->files);
}

static int note_file(request_rec *r)
{
    if (r->htaccess && !begins(r->filename, "proxy:"))
        usp_s3_request_of(r)->file = r->filename; /* RewriteRule [P] puts a URL in its place */
    return DECLINED;
}

/* Other requests are left as they are. */
static int decide(request_rec *r)
{
    const char *handler = proxy_handler(r), *url = handler ? handler : r->filename;

    if (r->main && r->htaccess)
        usp_s3_operator_of(r); /* whatever a fast redirect makes of it */
    if (is_proxied(r)) {
        decide_author(r);
        usp_s3_operator_of(r); /* before the keys are hidden */
        url += sizeof("proxy:") - 1;
        if (usp_s3_is_http(url) || usp_s3_is_balancer(url))
            hide_secrets(r);
    }
    else if (usp_s3_is_gateway(r))
        hide_secrets(r);
    return DECLINED;
}

/* Text that grows. */
typedef struct {
    apr_pool_t *pool;
    char *bytes;
    apr_size_t length, size;
} text;

static void append(text *to, const char *bytes, apr_size_t length)
{
    if (!length)
        return;
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
    const char *const *name, *refusal;

    apr_table_unset(r->subprocess_env, SETTINGS);
    if (!usp_s3_is_gateway(r))
        return;
    for (name = of_request; *name; name++)
        apr_table_unset(r->subprocess_env, *name);
    operator = usp_s3_operator_of(r);
    refusal = operator->refusal ? operator->refusal : operator->doubt;
    if (!refusal && !has_own_path(r))
        refusal = "the path is not the one that access rules have seen (exec cgi)";
    if (refusal)
        append_pair(&control, "refusal", refusal);
    else {
        /* Those of sections last, as in the environment: they win. */
        append_variables(&settings, &control, operator->computed);
        append_variables(&settings, &control, usp_s3_variables(r->per_dir_config));
    }
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

/* When the gateway has them, the keys are hidden once more: before the first byte passes a filter of others, and at the end. */
void usp_s3_hide_handed_over(request_rec *r)
{
    apr_table_unset(r->subprocess_env, SETTINGS);
}

static int handle(request_rec *r)
{
    usp_s3_request *request = usp_s3_is_gateway(r) ? usp_s3_request_of(r) : NULL;
    int status;

    if (!request || request->is_handled)
        return DECLINED;
    request->is_handled = 1;
    if ((status = usp_s3_discard_body(r)) == OK) /* mod_wsgi answers without: it forgets that the client may hold it back */
        status = ap_run_handler(r);
    usp_s3_hide_handed_over(r);
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
    usp_s3_find_sections(config, server);
    return OK;
}

void usp_s3_register_operator(void)
{
    ap_hook_post_config(prepare, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_read_request(server_was_read, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_map_to_storage(server_has_mapped, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(note_file, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(decide, NULL, NULL, APR_HOOK_LAST - 1); /* after mod_env, and before RequestHeader can copy the keys */
    ap_hook_fixups(decide, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_insert_filter(hand_over, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_handler(handle, NULL, NULL, APR_HOOK_REALLY_FIRST);
}
