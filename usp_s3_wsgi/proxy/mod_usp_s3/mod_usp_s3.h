/*
 * The types and functions that the sources of usp_s3_module share.
 *
 *   mod_usp_s3.c         the module declaration and mod_proxy's hooks: sign a request, forward or reject the response
 *   request_util.c       functions for requests, used by several of the others
 *   section_match.c      which requests go to a bucket, and with which settings
 *   section_index.c      an index of the <Proxy> sections
 *   setting_names.c      the names of the settings, and functions for URLs
 *   trust_boundary.c     which variables of a request the operator has set
 *   htaccess_author.c    whether a value or a URL comes from an .htaccess file
 *   settings_handover.c  the gateway's settings, handed over to mod_wsgi with a proof
 *   python_callbacks.c   calls to Python, and the extension module usp_s3_wsgi._httpd
 *   signing_template.c   signatures without Python, for requests of the same second; signature.c computes them
 *   endpoint_state.c     the version of what Python has recorded of S3's endpoints
 *   request_headers.c    the headers that are sent to S3; http_date.c normalizes the dates in them
 *   response_framing.c   the header of S3's response: where the body ends, and whether it is the requested range
 *   body_guard.c         abort responses whose body is truncated
 *   head_length.c        "Content-Length: 0" in responses to HEAD requests
 *   shared_metrics.c     what is recorded of exchanges with S3, in shared memory (metrics.h)
 *   access_log.c         the same for each request, in the access log
 *   configtest.c         checks of the settings by "httpd -t" and at start
 *   graceful_restart.c   faster graceful restarts
 */

#ifndef MOD_USP_S3_H
#define MOD_USP_S3_H

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "util_filter.h"
#include "apr_lib.h"
#include "apr_strings.h"
#include "mod_proxy.h"
#include "metrics.h"
#include "signature.h"

extern module AP_MODULE_DECLARE_DATA usp_s3_module;
extern const command_rec usp_s3_directives[];
APLOG_USE_MODULE(usp_s3);

/* Arrays of variables have elements of apr_table_entry_t. */

/* The variables of a request that rules of the operator have set. Those of SetEnv are in r->per_dir_config. */
typedef struct {
    apr_array_header_t *rule_variables;           /* variables set by SetEnvIf and RewriteRule [E=] */
    const struct htaccess_result *htaccess_files; /* read for the request, or for the including request */
    const char *htaccess_error;  /* error message if a setting is set in an .htaccess file, else NULL */
    const char *ambiguity_error; /* error message if a rule of an .htaccess file may have set or unset one, else NULL */
} usp_s3_trusted_variables;

/* The settings of a request that mod_proxy sends to a bucket. */
typedef struct {
    const apr_array_header_t *variables; /* of the sections that apply */
    const char *section_url; /* the bucket's URL if S3BucketURL is not set; NULL if a pattern matched */
    const char *rejection;   /* error message if the request must not be signed, else NULL */
} usp_s3_settings;

/* The header of S3's response while it is read. An interim response (1xx) resets it. */
typedef struct {
    char line[512];             /* the beginning of the current line */
    apr_size_t line_length;     /* bytes in line */
    int is_line_truncated;      /* the current line is longer than that */
    int is_after_cr;            /* the last byte was a CR */
    apr_size_t line_size;       /* bytes of the current line so far */
    apr_size_t last_line_size;  /* bytes of the last line that was read, whole or not */
    apr_size_t size;            /* bytes of the header so far */
    int status;                 /* 0 before the status line, and if that is invalid */
    int is_status_line_invalid;
    int is_http_1_0;
    int is_complete;            /* the empty line after the header was read */
    int has_content_length, has_transfer_encoding, has_content_range, has_content_encoding;
    const char *error;          /* error message if the end of the body is ambiguous, else NULL */
} usp_s3_response_header;

/* A signed request that mod_proxy sends, and what is known of its response: made by the hook pre_request, each attempt anew. */
typedef struct {
    usp_s3_settings settings;
    int initial_status;         /* r->status before: 200, or the error that this ErrorDocument is for */
    int attempt;                /* from 1; more if a balancer tries its next member */
    const char *url;            /* mod_proxy's own URL, without the signature */
    const char *proxy_error;    /* what mod_proxy or mod_ssl wrote to the error log instead of a response, or NULL */
    int proxy_status;           /* what mod_proxy returned instead of a response, or 0 */
    const char *signed_url;     /* the URL with the signature, if it is in the query; NULL before it is signed */
    const char *host;           /* the Host header, which is signed */
    const char *server_name;    /* the host without port, for TLS */
    int are_fields_overridden;  /* r->hostname and r->log have values for mod_proxy; the next two are the client's */
    const char *saved_hostname;
    const struct ap_logconf *saved_log;
    ap_filter_t *response_filter;     /* while it is in r->output_filters, else NULL */
    apr_table_t *signature_headers;
    int pass_accept_encoding;         /* setting S3PassAcceptEncoding */
    int is_for_part_number;           /* the query has partNumber */
    const char *range;                /* the Range header sent to S3, or NULL */
    const char *if_range;             /* the If-Range header sent to S3, or NULL */
    usp_s3_response_header response_header;
    int is_length_enforced;           /* a range in chunked encoding: the bytes are counted */
    apr_int64_t bytes_left;           /* bytes of it that are still missing */
    apr_int64_t signed_at;            /* time in the signature (unix time), corrected for S3's clock */
    apr_int64_t state_version;        /* version of the endpoint state that was used for the signature */
    apr_array_header_t *pass_headers; /* const char *: lowercase prefixes, setting S3PassHeaders */
    int has_response;                 /* the header of the response was handled */
    int is_client_connection_closed;  /* by mod_proxy, which got no response, and may return OK */
    int s3_status;                    /* status of S3's response; 0 if that is not HTTP */
    int is_logged;                    /* the error log has a line about the response */
    int is_body_withheld;             /* the body is not forwarded: of an error such as 404, or of a rejected response */
    int is_rejected;                  /* the header check has rejected the response, whatever its body says */
    int client_status;                /* status for the client if the body is withheld, once that is known */
    int is_truncated;                 /* response body truncated, after its beginning was forwarded */
    int must_refetch_whole;           /* the range is of a changed object: send the request again without Range */
    char *error_body;                 /* beginning of the body of an error response */
    apr_size_t error_body_length;
    /* For metrics and the access log, in microseconds of usp_s3_monotonic_time: */
    const char *bucket;               /* the bucket's name, or NULL */
    const char *s3_code, *request_id; /* of S3's error response, or NULL */
    const char *error_code;           /* USPS3nnnn, or NULL */
    apr_uint64_t began_at;
    apr_uint64_t first_byte_at;       /* 0 if there was no response */
    apr_uint64_t body_bytes;          /* bytes of the body that were forwarded */
    int is_connection_new;            /* the connection was not used before */
} signed_request;

/* What this module stores in r->request_config. */
typedef struct {
    const apr_array_header_t *setenvif_variables; /* set by SetEnvIf of the server when the request was read */
    const apr_array_header_t *variables_before_htaccess; /* set before any .htaccess file was read */
    const char *mapped_url;                       /* URL by a ProxyPass or RewriteRule of the server, as written there */
    const char *file;                             /* r->filename before rules of sections replaced it by a URL */
    signed_request *signed_request;               /* while mod_proxy sends it */
    int is_handled;                               /* the handler for gateway requests was called */
    char slot_token[USP_S3_TOKEN_SIZE + 1];       /* of the gateway's exchanges; empty if no slot was opened */
    usp_s3_totals *totals;                        /* of the exchanges of this request and its subrequests, or NULL */
    const usp_s3_totals *logged_totals;           /* the same for the access log, with internal redirects */
} usp_s3_request_config;

/* The parts of a signature by Python that are the same for other paths of the same section in the same second. */
typedef struct {
    apr_int64_t second;               /* unix time of this server's clock: the template is valid during it */
    apr_int64_t signed_at;            /* the next fields are as in signed_request */
    apr_int64_t state_version;
    const char *host;
    const char *server_name;
    const char *bucket;
    apr_table_t *signature_headers;   /* without Authorization */
    apr_array_header_t *pass_headers;
    int pass_accept_encoding;
    int requires_empty_query;         /* setting S3PassQuery is set: Python must sign URLs with a query */
    const char *origin;               /* scheme and authority of the signed URL */
    const char *path_prefix;          /* the bucket's path: each key's path begins with it */
    usp_s3_signature_parts parts;     /* the rest of what is signed */
    const char *authorization;        /* the Authorization header up to the signature; NULL if that is in the query: */
    const char *query;                /* the query up to the signature */
} usp_s3_signing_template;

/* What Python needs too: it hands the values over with its callbacks. As SharedTables in proxy/shared_tables.py. */
typedef struct {
    const char **dated_conditions, **etag_conditions, **gzip_codings; /* terminated by NULL */
    const char *upload_coding;
    const char *default_content_type;
    const char **request_id_headers; /* terminated by NULL; the first is Amazon's */
    char is_unreserved[256];
    apr_size_t max_header_size;
    apr_size_t max_error_document_size;
} usp_s3_shared_tables;

/* For usp_s3_any_section: a test of a configuration, with an argument of its own. */
typedef int usp_s3_section_test(ap_conf_vector_t *config, const void *argument);

/* ---------------------------------------------------------------- mod_usp_s3.c */

/* Whether httpd has loaded this shared object as a module. Python can import it even if not. */
int usp_s3_is_loaded(void);

/* Keep mod_proxy_http from logging warnings about this response: our own line says what is wrong with it. */
void usp_s3_silence_proxy_log(request_rec *r);

/* ---------------------------------------------------------------- request_util.c */

/* The client's request: r itself, or the one that a subrequest belongs to. */
request_rec *usp_s3_main_request(request_rec *r);

/* What this module stores for a request; created if there is nothing yet. */
usp_s3_request_config *usp_s3_get_request_config(request_rec *r);

/* The URL by a ProxyPass or RewriteRule of the server, as written there, else NULL. */
const char *usp_s3_get_mapped_url(request_rec *r);

/* The signed request while mod_proxy sends it; NULL if this request does not go to a bucket. */
signed_request *usp_s3_get_signed_request(request_rec *r);

/* S3's id of a request in the headers of its response, in words for its support; NULL if there is none. */
const char *usp_s3_get_s3_request_id(request_rec *r);

/* Whether the client's request has a body. A subrequest uses the main request's body. */
int usp_s3_client_has_body(request_rec *r);

/* Read and discard the client's request body, so that the next request begins after it. Returns OK or an error. */
int usp_s3_discard_body(request_rec *r);

/* ---------------------------------------------------------------- section_match.c */

/*
 * Whether a request that mod_proxy is about to send goes to a bucket; if so, fill settings. One with settings->rejection is
 * answered with an error, and never sent unsigned. balancer_url: the URL before a balancer chose a member, which is url where
 * there is no balancer.
 */
int usp_s3_find_settings(request_rec *r, proxy_server_conf *conf, const char *url, const char *balancer_url,
                         usp_s3_settings *settings);

/* The path of the ProxyPass that matches the request's path, else NULL. */
const char *usp_s3_proxy_pass_path(request_rec *r);

/* ---------------------------------------------------------------- section_index.c */

/* Index the <Proxy> sections of all servers after the configuration was read. */
void usp_s3_index_sections(apr_pool_t *pool, server_rec *servers);

/* Whether a URL has a <Proxy> section with settings. */
int usp_s3_is_bucket_member(proxy_server_conf *conf, const char *url);

/* ---------------------------------------------------------------- setting_names.c */

/*
 * Whether a variable is a known setting, in upper or lower case. Names in capitals only, such as another program's
 * S3_BUCKET, count if capitals is true.
 */
int usp_s3_is_setting(const apr_table_entry_t *entry, int capitals);

/* Whether the name of a variable begins with S3: it may be a misspelt setting. */
int usp_s3_has_setting_prefix(const apr_table_entry_t *entry);

/* Whether there is a known setting among variables; whether there is S3BucketURL with a value. */
int usp_s3_contains_setting(const apr_array_header_t *all);
int usp_s3_has_bucket_url(const apr_array_header_t *all);

/* Whether the scheme of a URL is one of HTTP, or mod_proxy_balancer's. */
int usp_s3_is_http_url(const char *url);
int usp_s3_is_balancer_url(const char *url);

/* ---------------------------------------------------------------- trust_boundary.c */

void usp_s3_register_trust_boundary(void);

/*
 * The variables of a request that the operator has set, not an .htaccess file or the including request. Computed once: the
 * result is stored in r->per_dir_config, which is replaced.
 */
const usp_s3_trusted_variables *usp_s3_ensure_trusted_variables(request_rec *r);

/* The variables of SetEnv and PassEnv, or of UnsetEnv, in a configuration; NULL if there are none. */
const apr_array_header_t *usp_s3_setenv_variables(ap_conf_vector_t *config);
const apr_array_header_t *usp_s3_unsetenv_variables(ap_conf_vector_t *config);

/* Whether an array contains the same entry: the value is the same pointer, not an equal string. */
int usp_s3_contains_same_entry(const apr_array_header_t *all, const apr_table_entry_t *wanted);

/* Whether a test is true for a configuration, or for an <If> or <Files> section in it. */
int usp_s3_any_section(ap_conf_vector_t *config, usp_s3_section_test *test, const void *argument);

/* For usp_s3_any_section: whether SetEnv or PassEnv sets the same entry. */
int usp_s3_sets_same_entry(ap_conf_vector_t *config, const void *entry);

/* Whether there are directives of mod_setenvif or mod_rewrite, which can set variables. */
int usp_s3_has_rules(ap_conf_vector_t *config);

/* ---------------------------------------------------------------- htaccess_author.c */

/* Error message if an .htaccess file may have chosen the URL that mod_proxy is about to send, else NULL. */
const char *usp_s3_get_url_error(request_rec *r);

/* ---------------------------------------------------------------- settings_handover.c */

/* Whether the gateway is about to handle a request. */
int usp_s3_is_gateway_request(request_rec *r);

/* Remove the settings that were handed over to the gateway from the environment of a request. */
void usp_s3_unset_handover_variable(request_rec *r);

/* The secret that proves the settings in the environment are the operator's; NULL if httpd has not loaded this module. */
const char *usp_s3_get_proof(void);

/* ---------------------------------------------------------------- python_callbacks.c */

/* Sign a request: change *url and fill request. Returns OK or the status for the client. */
int usp_s3_sign_request(request_rec *r, signed_request *request, char **url);

/* Map S3's error response to the status for the client, which is returned, and log what the operator must know. */
int usp_s3_explain_error(request_rec *r, signed_request *request, int s3_status);

/* Kinds of another failure, as in proxy/callbacks.py. */
#define USP_S3_INVALID_RESPONSE "invalid response"
#define USP_S3_TRUNCATED_BODY "truncated body"
#define USP_S3_EXCESS_BODY "excess body"
#define USP_S3_NO_RESPONSE "no response"
#define USP_S3_FAILED_MEMBER "failed member" /* of a balancer: not logged */

/* Log another failure of a request, in the words of Python's describe_failure, subject to rate limiting. Sets error_code. */
void usp_s3_log_failure(request_rec *r, signed_request *request, const char *kind, const char *message);

/* Log S3's response in the words of describe_response at LogLevel debug, unless it is a success or logged already. */
void usp_s3_log_response(request_rec *r, signed_request *request);

/*
 * Validate S3's response to a range request. Sets r->status, request->must_refetch_whole and request->client_status. Returns
 * an error message if the response is not the requested range, else NULL.
 */
const char *usp_s3_validate_response(request_rec *r, signed_request *request);

/* Whether httpd left a %2F in the path that access rules checked (AllowEncodedSlashes NoDecode, mapping=encoded). */
int usp_s3_has_encoded_slash(request_rec *r);

/* Header names, terminated by NULL: those sent to S3 by method, those forwarded to the client by status; or NULL. */
const char **usp_s3_forwarded_request_headers(const char *method);
const char **usp_s3_forwarded_response_headers(int status);

/* The other tables. They are empty until Python has registered its callbacks, and so while no request can be signed. */
const usp_s3_shared_tables *usp_s3_get_shared_tables(void);

/* ---------------------------------------------------------------- signing_template.c */

void usp_s3_register_signing_template(void);

/* Sign a request if there is a template of this second for its settings and URL; returns whether it was signed. */
int usp_s3_sign_with_template(request_rec *r, signed_request *request, char **url);

/* Store how Python has signed a request. url: mod_proxy's own URL, before signing. */
void usp_s3_remember_template(request_rec *r, const signed_request *request, const char *url,
                              const usp_s3_signing_template *template);

/* ---------------------------------------------------------------- endpoint_state.c */

/* Set and get the newest version of Python's endpoint state. Templates of an older version are not used any more. */
void usp_s3_set_state_version(apr_int64_t version);
apr_int64_t usp_s3_get_state_version(void);

/* Record that S3 has accepted the signature of a request. */
void usp_s3_record_accepted_version(const signed_request *request);

/* The newest state version of a signature that this request's host has accepted, or -1. */
apr_int64_t usp_s3_get_accepted_version(const signed_request *request);

/* ---------------------------------------------------------------- proxy_errors.c */

void usp_s3_register_proxy_errors(void);

/* From now on this thread sends a request to a bucket; NULL: it does not any more. */
void usp_s3_watch_proxy_errors(const signed_request *request);

/* Why the request that this thread has sent got no response, "" if that is not known. */
const char *usp_s3_get_proxy_error(request_rec *r, const signed_request *request, int is_handshake_failed);

/* ---------------------------------------------------------------- request_headers.c */

void usp_s3_register_request_headers(void);

/* ---------------------------------------------------------------- http_date.c */

/* A date in HTTP's preferred format, NULL if it is invalid: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7 */
const char *usp_s3_normalize_http_date(apr_pool_t *pool, const char *text);

/* ---------------------------------------------------------------- response_framing.c */

void usp_s3_register_response_framing(void);

/* Error message if the end of the response body is ambiguous, or cannot be passed on to this client; else NULL. */
const char *usp_s3_check_framing(request_rec *r, const signed_request *request);

/*
 * Check the response to a range request: it may change r->status, and sets what usp_s3_validate_response sets. Returns an error
 * message if the response is not the requested range, else NULL.
 */
const char *usp_s3_check_range(request_rec *r, signed_request *request);

/*
 * Count the bytes of a range in chunked encoding. Returns whether the body ends early or is too long; then the brigade may have
 * been cleared.
 */
int usp_s3_count_body_bytes(signed_request *request, apr_bucket_brigade *brigade);

/* ---------------------------------------------------------------- body_guard.c */

void usp_s3_register_body_guard(void);

/* The response body of the gateway request that this thread handles, else NULL. Valid until the request ends. */
void *usp_s3_guarded_body(void);

/* Mark that body as truncated, whatever its length: the response is aborted when the gateway ends the body. */
void usp_s3_mark_body_truncated(void *body);

/* The request of that body. */
request_rec *usp_s3_guarded_request(void *body);

/* Forward the data of a truncated body, and make its end abnormal for every filter and client. */
apr_status_t usp_s3_abort_response(ap_filter_t *filter, apr_bucket_brigade *brigade);

/* ---------------------------------------------------------------- head_length.c */

void usp_s3_register_head_length(void);

/* Keep "Content-Length: 0" in the response to a HEAD request of an empty object. */
void usp_s3_keep_zero_length_of_head(request_rec *r);

/* ---------------------------------------------------------------- configtest.c */

void usp_s3_register_configtest(void);

/* ---------------------------------------------------------------- graceful_restart.c */

/* Wait at a graceful restart for idle children to exit: httpd would replace them only a second later. */
void usp_s3_wait_for_exiting_children(void);

#endif
