/*
 * Whether a value, or the URL that mod_proxy is about to send, comes from an .htaccess file.
 *
 * httpd keeps the .htaccess files that it has read for a request in r->htaccess. A variable of SetEnv is found in the one
 * that has set it. What a rule of SetEnvIf or RewriteRule has set, or a handler that was chosen, does not show which file it
 * came from: it may come from any file that applies to the request and has such directives.
 */

#include "trust_boundary.h"

/* Keys of r->notes. */
#define CHECKED "usp-s3-url-checked"
#define URL_ERROR "usp-s3-url-error"

static module *setenvif_module, *rewrite_module, *mime_module;

void usp_s3_find_directive_modules(void)
{
    setenvif_module = ap_find_linked_module("mod_setenvif.c");
    rewrite_module = ap_find_linked_module("mod_rewrite.c");
    mime_module = ap_find_linked_module("mod_mime.c");
}

/* ---------------------------------------------------------------- tests for usp_s3_any_section */

/* Whether a setting is unset. In an <If>, UnsetEnv counts after everything that the operator has set. */
static int unsets_setting(ap_conf_vector_t *config, const void *unused)
{
    (void)unused;
    return usp_s3_contains_setting(usp_s3_unsetenv_variables(config));
}

/* Whether there is a directive of a module. A configuration has no entry for other modules. */
static int has_directive_of(ap_conf_vector_t *config, const void *directive_module)
{
    return directive_module && ap_get_module_config(config, (const module *)directive_module) != NULL;
}

int usp_s3_has_rules(ap_conf_vector_t *config)
{
    return has_directive_of(config, setenvif_module) || has_directive_of(config, rewrite_module);
}

static int has_rules(ap_conf_vector_t *config, const void *unused)
{
    (void)unused;
    return usp_s3_has_rules(config);
}

/* Whether there is this very SetHandler directive. */
static int has_handler(ap_conf_vector_t *config, const void *handler)
{
    const core_dir_config *core = ap_get_core_module_config(config);

    return core && core->expr_handler == handler;
}

/* Whether there is a directive that can choose a handler or a content type. */
static int chooses_handler(ap_conf_vector_t *config, const void *unused)
{
    const core_dir_config *core = ap_get_core_module_config(config);

    (void)unused;
    return (core && (core->expr_handler || core->handler || core->mime_type)) || has_directive_of(config, mime_module)
           || has_directive_of(config, rewrite_module);
}

/* ---------------------------------------------------------------- .htaccess files */

/*
 * Whether a file is in a directory, or is the directory itself without its slash. If its name is lost, it may be in any
 * directory.
 */
static int is_in_directory(const char *name, const char *directory)
{
    size_t length = strlen(directory);

    if (!name || usp_s3_starts_with(name, "proxy:"))
        return 1;
    while (length && directory[length - 1] == '/')
        length--;
    return strncmp(name, directory, length) == 0 && (name[length] == '/' || !name[length]);
}

/*
 * The directory whose .htaccess file applies to this request and passes a test, else NULL. r->htaccess also has the files of
 * the including request, and of the request before a redirect.
 */
static const char *find_htaccess_directory(request_rec *r, usp_s3_section_test *test, const void *argument)
{
    usp_s3_request_config *config = ap_get_module_config(r->request_config, &usp_s3_module);
    const char *name = config && config->file ? config->file : r->filename;
    const struct htaccess_result *file;

    if (usp_s3_get_mapped_url(r))
        return NULL; /* no .htaccess file is read for a proxied URL */
    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess && is_in_directory(name, file->dir) && usp_s3_any_section(file->htaccess, test, argument))
            return file->dir;
    }
    return NULL;
}

const char *usp_s3_htaccess_with_rules(request_rec *r)
{
    return find_htaccess_directory(r, has_rules, NULL);
}

const char *usp_s3_htaccess_with_unset(request_rec *r)
{
    return find_htaccess_directory(r, unsets_setting, NULL);
}

const char *usp_s3_htaccess_of_variable(const struct htaccess_result *files, const apr_table_entry_t *entry)
{
    for (; files; files = files->next) {
        if (files->htaccess && usp_s3_any_section(files->htaccess, usp_s3_sets_same_entry, entry))
            return files->dir;
    }
    return NULL;
}

/* ---------------------------------------------------------------- the URL that mod_proxy is about to send */

const char *usp_s3_get_proxy_handler(request_rec *r)
{
    const char *handler = r->handler ? r->handler : r->content_type;

    return usp_s3_starts_with(handler, "proxy:") && !usp_s3_starts_with(r->filename, "proxy:") ? handler : NULL;
}

/* Whether a SetHandler of the server configuration has chosen the handler. */
static int is_server_handler(request_rec *r, const char *handler)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const struct htaccess_result *file;
    const char *chosen, *error = NULL;

    if (!core->expr_handler)
        return 0;
    for (file = r->htaccess; file; file = file->next) {
        if (file->htaccess && usp_s3_any_section(file->htaccess, has_handler, core->expr_handler))
            return 0;
    }
    chosen = ap_expr_str_exec(r, core->expr_handler, &error);
    return !error && chosen && ap_cstr_casecmp(chosen, handler) == 0; /* httpd has converted it to lowercase */
}

static const char *find_url_error(request_rec *r)
{
    const char *handler = usp_s3_get_proxy_handler(r), *directory;

    if (handler && usp_s3_starts_with(r->content_type, "proxy:"))
        return "a content type has routed this request to mod_proxy: the author of a file may have set it";
    if (handler && is_server_handler(r, handler))
        return NULL;
    directory = handler ? find_htaccess_directory(r, chooses_handler, NULL)
                        : find_htaccess_directory(r, has_directive_of, rewrite_module);
    if (!directory)
        return NULL;
    return apr_psprintf(r->pool,
                        "the .htaccess file of %s may have routed this request to mod_proxy: requests to a bucket "
                        "must be routed by the server configuration",
                        directory);
}

/*
 * The result is in r->notes, which an internal fast redirect takes over from the subrequest that it found. It is valid for
 * the handler and the file name of that subrequest only, not for others that were chosen since.
 */
void usp_s3_check_url_author(request_rec *r)
{
    const char *target = apr_pstrcat(r->pool, r->handler ? r->handler : "", "\n", r->filename, NULL);
    const char *checked = apr_table_get(r->notes, CHECKED);
    int is_checked = usp_s3_get_mapped_url(r) || (checked && strcmp(checked, target) == 0);
    const char *error = is_checked ? NULL : find_url_error(r);

    apr_table_setn(r->notes, CHECKED, target);
    if (error)
        apr_table_setn(r->notes, URL_ERROR, error);
}

/* A module that sets the file name of a subrequest does so after fixups: that is the operator's choice, and has no error. */
const char *usp_s3_get_url_error(request_rec *r)
{
    return apr_table_get(r->notes, URL_ERROR);
}
