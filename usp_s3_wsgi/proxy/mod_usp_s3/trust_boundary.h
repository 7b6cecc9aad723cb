/* What trust_boundary.c, htaccess_author.c and settings_handover.c share. */

#ifndef USP_S3_TRUST_BOUNDARY_H
#define USP_S3_TRUST_BOUNDARY_H

#include "mod_usp_s3.h"

/* The variable that hands the settings over to the gateway. */
#define HANDOVER_VARIABLE "USP_S3_SETTINGS"

/* ---------------------------------------------------------------- trust_boundary.c */

/* Whether this package reads a variable: a setting, also a misspelt one, or USP_S3_PATH. */
int usp_s3_is_package_variable(const apr_table_entry_t *entry);

int usp_s3_starts_with(const char *text, const char *prefix);

/* ---------------------------------------------------------------- htaccess_author.c */

/* Find the modules whose directives are looked for. */
void usp_s3_find_directive_modules(void);

/*
 * "proxy:URL" if a handler routes the request to mod_proxy, or a content type in its place. NULL if not, or if r->filename
 * does, which comes first.
 */
const char *usp_s3_get_proxy_handler(request_rec *r);

/* The directory whose .htaccess file applies to this request and can set variables by rules, or has UnsetEnv of a setting. */
const char *usp_s3_htaccess_with_rules(request_rec *r);
const char *usp_s3_htaccess_with_unset(request_rec *r);

/* The directory whose .htaccess file has set a variable that was merged into the request, else NULL. */
const char *usp_s3_htaccess_of_variable(const struct htaccess_result *files, const apr_table_entry_t *entry);

/* Store for usp_s3_get_url_error whether the operator has chosen the URL that mod_proxy is about to send. */
void usp_s3_check_url_author(request_rec *r);

/* ---------------------------------------------------------------- settings_handover.c */

/* Make a new proof. Returns OK or an error status. */
int usp_s3_make_proof(server_rec *server);

/* Remove secrets from the environment of a request. */
void usp_s3_hide_secrets(request_rec *r);

void usp_s3_register_settings_handover(void);

#endif
