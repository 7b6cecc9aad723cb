/*
 * Which variables of a request the operator has set: the trust boundary.
 *
 * The operator writes the server configuration. The environment of a request also has variables that others have set: the
 * author of an .htaccess file, the including request of a subrequest, the directory that an internal fast redirect came from.
 * Here the operator's variables are separated from theirs, once for each request. The environment of requests that neither
 * the gateway nor mod_proxy handles is not changed. The hooks, all in this file:
 *
 *   post_read_request  SetEnvIf of the server has run: keep its variables, for subrequests too
 *   map_to_storage     RewriteRule [E=] of the server has run: keep its variables before any .htaccess file is read
 *   fixups             rules of sections have run: store the result in the per-directory configuration, which an
 *                      internal fast redirect takes over from the subrequest it found, and hide the secrets
 *
 * htaccess_author.c finds the .htaccess file that a variable may come from; settings_handover.c gives the result to the
 * gateway.
 */

#include "trust_boundary.h"

#define PATH_VARIABLE "USP_S3_PATH"

static module *env_module;

/* ---------------------------------------------------------------- variables */

/*
 * r->subprocess_env also has the including request's variables; mod_env's tables do not. They are the first members of its
 * configuration, which no header declares; they have been so since httpd 1.3.
 */
typedef struct {
    apr_table_t *vars;
    apr_table_t *unsetenv;
} env_config;

const apr_array_header_t *usp_s3_setenv_variables(ap_conf_vector_t *config)
{
    env_config *env = env_module ? ap_get_module_config(config, env_module) : NULL;
    return env && env->vars ? apr_table_elts(env->vars) : NULL;
}

const apr_array_header_t *usp_s3_unsetenv_variables(ap_conf_vector_t *config)
{
    env_config *env = env_module ? ap_get_module_config(config, env_module) : NULL;
    return env && env->unsetenv ? apr_table_elts(env->unsetenv) : NULL;
}

int usp_s3_contains_same_entry(const apr_array_header_t *all, const apr_table_entry_t *wanted)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        /* The key too: mod_env uses the same pointer for all empty values. */
        if (entry->val == wanted->val && ap_cstr_casecmp(entry->key, wanted->key) == 0)
            return 1;
    }
    return 0;
}

int usp_s3_is_package_variable(const apr_table_entry_t *entry)
{
    return usp_s3_has_setting_prefix(entry) || ap_cstr_casecmp(entry->key, PATH_VARIABLE) == 0;
}

/* Whether a variable changes a request. Others that begin with S3 are misspelt, or another program's. */
static int is_effective(const apr_table_entry_t *entry)
{
    return usp_s3_is_setting(entry, 0) || ap_cstr_casecmp(entry->key, PATH_VARIABLE) == 0;
}

int usp_s3_starts_with(const char *text, const char *prefix)
{
    return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

int usp_s3_any_section(ap_conf_vector_t *config, usp_s3_section_test *test, const void *argument)
{
    core_dir_config *core = ap_get_core_module_config(config);
    apr_array_header_t *inner[] = {core ? core->sec_file : NULL, core ? core->sec_if : NULL};
    int i, j;

    if (test(config, argument))
        return 1;
    for (i = 0; i < 2; i++) {
        for (j = 0; inner[i] && j < inner[i]->nelts; j++) {
            if (usp_s3_any_section(APR_ARRAY_IDX(inner[i], j, ap_conf_vector_t *), test, argument))
                return 1;
        }
    }
    return 0;
}

int usp_s3_sets_same_entry(ap_conf_vector_t *config, const void *entry)
{
    return usp_s3_contains_same_entry(usp_s3_setenv_variables(config), entry);
}

/* ---------------------------------------------------------------- hooks: variables of the server */

/* This package's variables in the environment of a request; NULL if there are none. */
static apr_array_header_t *package_variables(request_rec *r)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    apr_array_header_t *found = NULL;
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (!usp_s3_is_package_variable(entry))
            continue;
        if (!found)
            found = apr_array_make(r->pool, 4, sizeof(apr_table_entry_t));
        APR_ARRAY_PUSH(found, apr_table_entry_t) = *entry;
    }
    return found;
}

/* Whether a variable was a setting before an internal redirect, which puts REDIRECT_ before each name. */
static int is_redirected_setting(const char *name)
{
    apr_table_entry_t entry = {.key = (char *)name};

    while (ap_cstr_casecmpn(entry.key, "REDIRECT_", 9) == 0)
        entry.key += 9;
    return entry.key != name && (usp_s3_is_setting(&entry, 1) || ap_cstr_casecmp(entry.key, HANDOVER_VARIABLE) == 0);
}

/* An error page may be a CGI script or use printenv, and may have another author: remove the settings from its environment. */
static void remove_redirected_settings(request_rec *r)
{
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    apr_table_t *kept = apr_table_make(r->pool, all->nelts);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (!is_redirected_setting(entry->key))
            apr_table_addn(kept, entry->key, entry->val);
    }
    r->subprocess_env = kept;
}

/* Runs for internal redirects too. Their environment is new; the variables of before have REDIRECT_ before their names. */
static int store_setenvif_variables(request_rec *r)
{
    usp_s3_request_config *before = r->prev ? ap_get_module_config(r->prev->request_config, &usp_s3_module) : NULL;
    apr_array_header_t *found;

    if (before && (before->setenvif_variables || before->variables_before_htaccess))
        remove_redirected_settings(r);
    if ((found = package_variables(r)))
        usp_s3_get_request_config(r)->setenvif_variables = found;
    return DECLINED;
}

static int store_variables_before_htaccess(request_rec *r)
{
    apr_array_header_t *found = package_variables(r);

    if (found)
        usp_s3_get_request_config(r)->variables_before_htaccess = found;
    if (usp_s3_starts_with(r->filename, "proxy:")) /* a copy: mod_proxy may change r->filename */
        usp_s3_get_request_config(r)->mapped_url = apr_pstrdup(r->pool, r->filename + 6);
    return DECLINED;
}

/* ---------------------------------------------------------------- the operator's variables */

/* Whether a subrequest has a variable only because the including request has: the value is the same pointer. */
static int is_inherited(request_rec *r, const apr_table_entry_t *entry)
{
    return r->main && usp_s3_contains_same_entry(apr_table_elts(r->main->subprocess_env), entry);
}

/* Add the variables that rules have set for this request, or for the main request if the rules do not run again. */
static void add_rule_variables(request_rec *r, usp_s3_trusted_variables *trusted)
{
    usp_s3_request_config *client = ap_get_module_config(usp_s3_main_request(r)->request_config, &usp_s3_module);
    usp_s3_request_config *own = ap_get_module_config(r->request_config, &usp_s3_module);
    const apr_array_header_t *setenvif = own ? own->setenvif_variables : NULL;
    const apr_array_header_t *before_htaccess = own ? own->variables_before_htaccess : NULL;
    const apr_array_header_t *all = apr_table_elts(r->subprocess_env);
    const char *directory = NULL, *ambiguous = NULL;
    int i;

    /* SetEnvIf of the server does not run again for a subrequest. */
    if (r->main && !r->prev && client && client->setenvif_variables)
        apr_array_cat(trusted->rule_variables, client->setenvif_variables);
    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (!usp_s3_is_package_variable(entry) || usp_s3_contains_same_entry(usp_s3_setenv_variables(r->per_dir_config), entry)
            || (is_inherited(r, entry) && !usp_s3_contains_same_entry(setenvif, entry)))
            continue;
        if (!usp_s3_contains_same_entry(before_htaccess, entry) && (directory = usp_s3_htaccess_with_rules(r)))
            ambiguous = is_effective(entry) ? entry->key : ambiguous;
        else
            APR_ARRAY_PUSH(trusted->rule_variables, apr_table_entry_t) = *entry;
    }
    for (i = 0; before_htaccess && i < before_htaccess->nelts && !ambiguous; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(before_htaccess, i, apr_table_entry_t);

        if (is_effective(entry) && !usp_s3_contains_same_entry(all, entry) && !is_inherited(r, entry)
            && (directory = usp_s3_htaccess_with_rules(r)))
            ambiguous = entry->key;
    }
    if (ambiguous)
        trusted->ambiguity_error = apr_psprintf(r->pool,
                                                "%s is changed by a rule, and the .htaccess file of %s has rules: "
                                                "the change may come from there",
                                                ambiguous, directory);
}

static usp_s3_trusted_variables *find_trusted_variables(request_rec *r)
{
    usp_s3_trusted_variables *trusted = apr_pcalloc(r->pool, sizeof(*trusted));
    const apr_array_header_t *all = usp_s3_setenv_variables(r->per_dir_config);
    const char *directory;
    int i;

    trusted->htaccess_files = r->htaccess;
    trusted->rule_variables = apr_array_make(r->pool, 4, sizeof(apr_table_entry_t));
    for (i = 0; all && i < all->nelts && !trusted->htaccess_error; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_effective(entry) && (directory = usp_s3_htaccess_of_variable(trusted->htaccess_files, entry)))
            trusted->htaccess_error = apr_psprintf(r->pool,
                                                   "%s is set in the .htaccess file of %s: settings must be in the "
                                                   "server configuration",
                                                   entry->key, directory);
    }
    add_rule_variables(r, trusted);
    if (!trusted->ambiguity_error && (directory = usp_s3_htaccess_with_unset(r)))
        trusted->ambiguity_error = apr_psprintf(r->pool,
                                                "the .htaccess file of %s unsets a setting (UnsetEnv): settings must "
                                                "be in the server configuration",
                                                directory);
    return trusted;
}

static int contains_package_variable(const apr_array_header_t *all)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        if (usp_s3_is_package_variable(&APR_ARRAY_IDX(all, i, apr_table_entry_t)))
            return 1;
    }
    return 0;
}

const usp_s3_trusted_variables *usp_s3_ensure_trusted_variables(request_rec *r)
{
    static const usp_s3_trusted_variables empty;
    usp_s3_trusted_variables *trusted = ap_get_module_config(r->per_dir_config, &usp_s3_module);
    ap_conf_vector_t *own;

    if (!trusted) {
        /* An internal fast redirect does not take over r->htaccess of the subrequest that it found: the result has it. */
        if (!contains_package_variable(usp_s3_setenv_variables(r->per_dir_config))
            && !contains_package_variable(apr_table_elts(r->subprocess_env)) && !(r->main && r->htaccess))
            return &empty;
        trusted = find_trusted_variables(r);
        own = ap_create_per_dir_config(r->pool);
        ap_set_module_config(own, &usp_s3_module, trusted);
        r->per_dir_config = ap_merge_per_dir_configs(r->pool, r->per_dir_config, own);
    }
    return trusted;
}

/* ---------------------------------------------------------------- hooks: fixups */

static int store_file_name(request_rec *r)
{
    if (r->htaccess && !usp_s3_starts_with(r->filename, "proxy:"))
        usp_s3_get_request_config(r)->file = r->filename; /* RewriteRule [P] replaces it by a URL */
    return DECLINED;
}

static int is_proxied(request_rec *r)
{
    return usp_s3_starts_with(r->filename, "proxy:") || usp_s3_get_proxy_handler(r);
}

/* Requests that neither the gateway nor mod_proxy handles are not changed. */
static int enforce_boundary(request_rec *r)
{
    const char *handler = usp_s3_get_proxy_handler(r), *url = handler ? handler : r->filename;

    if (r->main && r->htaccess)
        usp_s3_ensure_trusted_variables(r); /* an internal fast redirect may take over the result */
    if (is_proxied(r)) {
        usp_s3_check_url_author(r);
        usp_s3_ensure_trusted_variables(r); /* before the secrets are hidden */
        url += sizeof("proxy:") - 1;
        if (usp_s3_is_http_url(url) || usp_s3_is_balancer_url(url))
            usp_s3_hide_secrets(r);
    }
    else if (usp_s3_is_gateway_request(r))
        usp_s3_hide_secrets(r);
    return DECLINED;
}

static int post_config(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    int status = usp_s3_make_proof(server);

    (void)log;
    (void)temporary;
    if (status != OK)
        return status;
    env_module = ap_find_linked_module("mod_env.c");
    usp_s3_find_directive_modules();
    usp_s3_index_sections(config, server);
    return OK;
}

void usp_s3_register_trust_boundary(void)
{
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_read_request(store_setenvif_variables, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_map_to_storage(store_variables_before_htaccess, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(store_file_name, NULL, NULL, APR_HOOK_REALLY_FIRST);
    /* After mod_env, and before RequestHeader can copy a secret. */
    ap_hook_fixups(enforce_boundary, NULL, NULL, APR_HOOK_LAST - 1);
    /* Again after all other modules, which may have chosen another handler or file name since. */
    ap_hook_fixups(enforce_boundary, NULL, NULL, APR_HOOK_REALLY_LAST);
    usp_s3_register_settings_handover();
}
