/* What the parts of the extension have in common: mod_usp_s3.c (mod_proxy's hooks), trust_boundary.c (what the operator says, and
 * not a page), section_match.c (which requests are ours), python_callbacks.c (what Python is asked), signing_template.c (signatures of
 * one second), endpoint_state.c (what was learned of S3), request_headers.c and http_date.c (what S3 gets), response_framing.c (what S3 says of the
 * body), body_guard.c (bodies that are cut short), and configtest.c (what is said at a start). */

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
#include "sha256.h"

extern module AP_MODULE_DECLARE_DATA usp_s3_module;
APLOG_USE_MODULE(usp_s3);

/* Variables are apr_table_entry_t. */

/* What the operator says of a request besides SetEnv and PassEnv. */
typedef struct {
    apr_array_header_t *computed;        /* variables of SetEnvIf and RewriteRule [E=] */
    const struct htaccess_result *files; /* that were read for the request, or for the page around it */
    const char *refusal;          /* why a setting is an .htaccess author's, NULL for nothing */
    const char *doubt;            /* why a computed or missing one may be, NULL for nothing */
} usp_s3_operator;

/* What counts for a request that mod_proxy sends. */
typedef struct {
    const apr_array_header_t *settings; /* variables */
    const char *url;                    /* that names the bucket, unless S3BucketURL does; NULL where a pattern matched */
    const char *refusal;                /* why it cannot be signed whatever the settings are, NULL for nothing */
} usp_s3_place;

/* The header of S3's answer, as it comes; the answer's last one, where there are interim ones. */
typedef struct {
    char line[512];       /* the beginning of the line that is being read */
    apr_size_t length;    /* of that beginning */
    int is_cut;           /* the line goes on after it */
    int is_after_cr;      /* the last byte was one */
    apr_size_t line_size; /* of the whole line so far */
    apr_size_t last_size; /* of the last line of which something came */
    apr_size_t size;      /* of the header so far */
    int status;           /* 0 where the first line is no status line: */
    int is_bad_status;    /* then this says so */
    int is_old;           /* HTTP/1.0 */
    int is_over;          /* its end has come */
    int has_length, has_coding, has_range, has_content_coding; /* Content-Length, Transfer-Encoding, Content-Range... */
    const char *error;    /* why nobody knows where the body ends, NULL for nothing */
} usp_s3_header;

/* A request on its way through mod_proxy: set by pre_request, read by the other hooks. */
typedef struct {
    usp_s3_place place;
    int client_status;          /* before S3 is asked: an error's where this is its ErrorDocument, else 200 */
    int attempt;                /* from 1: more where a balancer asks its next member */
    const char *url;            /* as mod_proxy would have sent it: without signature */
    const char *host;           /* the Host header that is signed */
    const char *server_name;    /* the same without port, for TLS */
    int lent;                   /* the next two are not in the request, but what mod_proxy needs in their place */
    const char *client_host;
    const struct ap_logconf *client_log;
    ap_filter_t *filter;        /* answer_filter, while it is in r->output_filters */
    apr_table_t *headers;       /* the signature's */
    int passes_coding;          /* the section passes the client's Accept-Encoding */
    int by_number;              /* S3 is asked for a part of an upload (partNumber) */
    const char *range;          /* what S3 is asked for, NULL for no such header */
    const char *if_range;
    usp_s3_header header;       /* of S3's answer */
    int is_counted;             /* a part that comes in chunks: */
    apr_int64_t left;           /* bytes of it that are still to come */
    apr_int64_t signed_at;      /* the time that was signed, in unix time: S3's, where that was learned */
    apr_int64_t version;        /* of what was learned, by which it was signed */
    apr_array_header_t *passed; /* const char *: prefixes of further answer headers for the client, lowercase */
    int answered;               /* the answer's header has come */
    int s3_status;              /* what S3 answered; 0 where that is no HTTP */
    int logged;                 /* the error log says so already */
    int refused;                /* it is none for the client, */
    int is_decided;             /* by its header alone */
    int status;                 /* who gets this one instead */
    int cut;                    /* S3 ended the body early, after its beginning went out */
    int ask_for_all;            /* it is a part of another object than the client has the beginning of */
    char *body;                 /* of a refusal */
    apr_size_t length;
} signed_request;

/* What is kept of a request. */
typedef struct {
    const apr_array_header_t *of_server; /* variables that SetEnvIf of the server had set when the request was read */
    const apr_array_header_t *mapped;    /* variables that were there before any .htaccess file was read */
    const char *mapped_url;              /* what a ProxyPass or RewriteRule of the server made of it, as that is written */
    const char *file;                    /* the file's name before rules of sections have made a URL of it */
    signed_request *sent;                /* on its way through mod_proxy */
    int is_handled;                      /* the gateway's handler has been called */
} usp_s3_request;

/* How Python has signed a request of this second: what is the same for the next one. */
typedef struct {
    apr_int64_t second;         /* this one, by this server's clock, in unix time */
    apr_int64_t signed_at;      /* as in signed_request, and so the next one */
    apr_int64_t version;
    int passes_query;           /* the section passes parameters of the client, so that a query is for Python */
    const char *origin;         /* of the URL that is asked: scheme and authority */
    const char *host;           /* as in signed_request, and so the next three; headers without Authorization */
    const char *server_name;
    apr_table_t *headers;
    apr_array_header_t *passed;
    int passes_coding;
    const char *prefix;         /* of the bucket: each path begins with it */
    const char *canonical;      /* the canonical request, from its query on */
    const char *to_sign;        /* the string to sign, up to the hash */
    unsigned char key[USP_S3_SHA256_SIZE];
    const char *authorization;  /* that header up to the signature, or NULL where it is in the query: */
    const char *query;          /* up to the signature */
} usp_s3_alike;

/* mod_usp_s3.c */

/* Whether httpd has loaded this as a module: Python can import it all the same. */
int usp_s3_is_loaded(void);

/* Read the client's body and drop it, so that the next request begins after it; returns OK or the status of the refusal. */
int usp_s3_discard_body(request_rec *r);

/* Let mod_proxy_http write no warnings about this answer of S3: our own line says what is wrong with it. */
void usp_s3_silence_proxy(request_rec *r);

/* http_date.c */

/* A date as S3 is to see it, NULL for what is no date: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7 */
const char *usp_s3_http_date(apr_pool_t *pool, const char *text);

/* request_headers.c */

void usp_s3_register_headers(void);

/* response_framing.c */

void usp_s3_register_framing(void);

/* Why the end of S3's body is not certain, or not for this client; NULL where it is. */
const char *usp_s3_framing_error(request_rec *r, const signed_request *request);

/* Why what S3 sends is not what was asked for, NULL for nothing; the answer may mean another status, or another request. */
const char *usp_s3_range_error(request_rec *r, signed_request *request);

/* Whether a part that comes in chunks ends before it is whole, or goes on after that. */
int usp_s3_ends_early(signed_request *request, apr_bucket_brigade *brigade);

/* body_guard.c */

void usp_s3_register_guard(void);

/* The request of the client itself, which a subrequest is a part of. */
request_rec *usp_s3_client(request_rec *r);

/* The body that the gateway is about to send from this thread of httpd, for as long as its request lasts; else NULL. */
void *usp_s3_guarded_body(void);

/* Let that body end abnormally, whatever its length, when the gateway ends it. */
void usp_s3_cut_body(void *body);

/* Pass on what is left of a body that S3 did not send whole, and make its end an abnormal one for whoever reads it. */
apr_status_t usp_s3_break_off(ap_filter_t *filter, apr_bucket_brigade *brigade);

/* Let the answer to a HEAD say that an object is empty. */
void usp_s3_keep_zero_length(request_rec *r);

/* trust_boundary.c */

void usp_s3_register_operator(void);

/* What SetEnv and PassEnv say in these sections, and what UnsetEnv does; NULL for nothing. */
const apr_array_header_t *usp_s3_variables(ap_conf_vector_t *config);
const apr_array_header_t *usp_s3_unset_variables(ap_conf_vector_t *config);

/* Whether this variable is among them with this very value: the same string, not an equal one. */
int usp_s3_holds(const apr_array_header_t *all, const apr_table_entry_t *wanted);

/* Whether something is so of a configuration, or of an <If> or <Files> in it. */
int usp_s3_any(ap_conf_vector_t *config, int (*is_so)(ap_conf_vector_t *, const void *), const void *of);

/* For usp_s3_any: whether SetEnv or PassEnv has set this very entry there. */
int usp_s3_has_entry(ap_conf_vector_t *config, const void *entry);

/* Whether there are directives of modules that compute variables. */
int usp_s3_computes(ap_conf_vector_t *config);

/* Why what mod_proxy is to send may be another author's than the operator's, NULL for nothing. */
const char *usp_s3_author(request_rec *r);

/* What is kept of this request, made where there is nothing yet. */
usp_s3_request *usp_s3_request_of(request_rec *r);

/* What a ProxyPass or RewriteRule of the server made of this request, as that is written; NULL where none did. */
const char *usp_s3_mapped_url(request_rec *r);

/* The request on its way through mod_proxy; NULL where that is none of ours. */
signed_request *usp_s3_sent(request_rec *r);

/* What the operator says of a request, and not a page or an .htaccess file. */
const usp_s3_operator *usp_s3_operator_of(request_rec *r);

/* Take what the gateway has been handed over out of the environment of a request. */
void usp_s3_hide_handed_over(request_rec *r);

/* Whether the gateway is about to handle a request. */
int usp_s3_is_gateway(request_rec *r);

/* What only the operator's variables come with, and no page can know; NULL where httpd has not loaded this. */
const char *usp_s3_proof(void);

/* configtest.c */

/* Tell at "httpd -t" and at each start what is wrong with the settings. */
void usp_s3_register_configtest(void);

/* graceful_restart.c */

/* At a graceful restart: give idle children the moment that they need to end, or httpd replaces them a second later. */
void usp_s3_await_children(void);

/* section_match.c */

/* Look through the configuration, when it has been read, for what would take long at each request. */
void usp_s3_find_sections(apr_pool_t *pool, server_rec *servers);

/*
 * Whether a variable is a setting that is known, in any case; names all in capitals, which may be another program's as
 * S3_BUCKET is, count if asked for. One that begins with S3 may be a misspelt one.
 */
int usp_s3_is_setting(const apr_table_entry_t *entry, int capitals);
int usp_s3_may_be_setting(const apr_table_entry_t *entry);

/* Whether variables, or those of these sections, are about a bucket: there is a setting that is known. */
int usp_s3_holds_setting(const apr_array_header_t *all);
int usp_s3_has_settings(ap_conf_vector_t *config);

/* Whether there is S3BucketURL among variables. */
int usp_s3_names_bucket(const apr_array_header_t *all);

/* The path of the ProxyPass that this request's path is below, NULL where there is none. */
const char *usp_s3_mount(request_rec *r);

/* Whether a URL may be S3's, or is a balancer's. */
int usp_s3_is_http(const char *url);
int usp_s3_is_balancer(const char *url);

/* Whether a URL has a <Proxy> section with settings. */
int usp_s3_is_bucket(proxy_server_conf *conf, const char *url);

/* Whether what mod_proxy is about to ask is ours, and then what counts; unchosen is the URL before a balancer chose a member. */
int usp_s3_find_place(request_rec *r, proxy_server_conf *conf, const char *url, const char *unchosen, usp_s3_place *place);

/* signing_template.c */

/* Sign like the last request of this section, if that was in this second and nothing else is new; whether it was done. */
int usp_s3_sign_alike(request_rec *r, signed_request *request, char **url);

/* Remember how Python has signed for this URL, as mod_proxy gave it. */
void usp_s3_remember(request_rec *r, const signed_request *request, const char *url, const usp_s3_alike *alike);

/* endpoint_state.c */

/* Take the version of what was learned from Python; return the newest one. What was signed by an older one is outdated. */
void usp_s3_set_version(apr_int64_t version);
apr_int64_t usp_s3_version(void);

/* Remember that S3 has granted a request, whatever came of that. */
void usp_s3_set_granted(const signed_request *request);

/* The newest version by which a request was signed that this one's host has granted, -1 for none. */
apr_int64_t usp_s3_granted(const signed_request *request);

/* python_callbacks.c */

/* With NoDecode or mapping=encoded: whether access rules of httpd have seen a path that is not the key's. */
int usp_s3_has_undecoded_slash(request_rec *r);

/* Sign for *url, which is changed, and request, which is filled; returns OK or the status of the refusal. */
int usp_s3_sign(request_rec *r, signed_request *request, char **url);

/* Say what S3's refusal means: log it, and return the client's status. */
int usp_s3_explain(request_rec *r, signed_request *request, int refused);

/* Write the error log's line of another failure, if it is not one too many. */
void usp_s3_report(request_rec *r, signed_request *request, const char *what);

/* At LogLevel debug: say what S3 answered, if that is no success and no line says it yet. */
void usp_s3_log_answer(request_rec *r, signed_request *request);

/*
 * What S3's answer to a range means: r->status, request->ask_for_all and request->status are set. Returns why it is not what was
 * asked for, NULL for nothing.
 */
const char *usp_s3_judge_part(request_rec *r, signed_request *request);

/* Names of headers, ended by NULL: those that S3 may see, and those that the client may see; NULL for no such list. */
const char **usp_s3_forwarded(const char *method);
const char **usp_s3_passed_on(int status);

#endif
