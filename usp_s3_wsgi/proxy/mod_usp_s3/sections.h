/* What the parts of the rule have in common: setting_names.c (names, values and URLs), section_index.c (the <Proxy> sections of
 * a server), and section_match.c (the rule itself). */

#ifndef USP_S3_SECTIONS_H
#define USP_S3_SECTIONS_H

#include "mod_usp_s3.h"

#include "apr_hash.h"

#define BUCKET "S3BucketURL"

/* setting_names.c */

/* Whether that many letters are the name of a setting, in any case. */
int usp_s3_is_name_of_setting(const char *name, size_t length);

/* The first setting among variables; names all in capitals count if asked for. */
const apr_table_entry_t *usp_s3_first_setting(const apr_array_header_t *all, int capitals);

/* The last value of a variable that is not empty, NULL where there is none. */
const char *usp_s3_value_of(const apr_array_header_t *all, const char *name);

/* Whether there is what signs. */
int usp_s3_holds_identity(const apr_array_header_t *all);

/* What follows a beginning, NULL where the text begins otherwise. */
const char *usp_s3_after(const char *text, const char *beginning);

char *usp_s3_lowercase(apr_pool_t *pool, const char *text);

/* The URL behind a socket: unix:/run/s3.sock|http://localhost/ */
const char *usp_s3_behind_socket(const char *url);

/* A URL, or a pattern of one, for a log: without user and password. */
const char *usp_s3_shown_url(apr_pool_t *pool, const char *url);

/* Whether a text is a URL with scheme and host, which are parsed. */
int usp_s3_parse_url(apr_pool_t *pool, const char *url, apr_uri_t *uri);

/* Whether two URLs have the same scheme, host and port, however these are written. */
int usp_s3_is_same_origin(const apr_uri_t *one, const apr_uri_t *other);

/* The path of a URL, decoded, with a slash at its end. */
const char *usp_s3_folder_of(apr_pool_t *pool, const apr_uri_t *uri);

/* Whether a URL is below another one, however their hosts are written. What is no URL has nothing below it. */
int usp_s3_is_below(apr_pool_t *pool, const char *url, const char *other);

/* section_index.c */

/* A section with settings, and its place among all those of its server. */
typedef struct {
    ap_conf_vector_t *section;
    int place;
} usp_s3_indexed;

/* The sections of a server that hold settings: there may be thousands. */
typedef struct {
    apr_hash_t *by_host;          /* by the host in lowercase: arrays of usp_s3_indexed */
    apr_array_header_t *patterns; /* usp_s3_indexed: that may fall on several hosts */
} usp_s3_index;

const proxy_dir_conf *usp_s3_proxy_of(ap_conf_vector_t *section);

/* Whether a section is one of a URL, and not of a pattern. */
int usp_s3_is_literal(const proxy_dir_conf *proxy);

/* Whether mod_proxy applies a section to a URL. */
int usp_s3_is_applied_to(const proxy_dir_conf *proxy, const char *url);

/* Whether a section counts for a URL, whose query begins at path_end. */
int usp_s3_is_section_of(const proxy_dir_conf *proxy, const char *url, size_t path_end);

/* Whether a section counts for any host: <Proxy "*"> */
int usp_s3_is_section_of_any(const proxy_dir_conf *proxy);

/* For usp_s3_any: whether there is a setting, in capitals or not. */
int usp_s3_has_any_setting(ap_conf_vector_t *section, const void *unused);

/* Whether rules in a <Proxy> section compute a setting. */
int usp_s3_is_computing(ap_conf_vector_t *section);

/* The sections of a server, made from the pool where they have not been looked through before. */
const usp_s3_index *usp_s3_index_of(apr_pool_t *pool, const proxy_server_conf *conf);

/* The sections that may count for any of the hosts, in order (usp_s3_indexed); the hosts are in lowercase. */
apr_array_header_t *usp_s3_candidates(apr_pool_t *pool, const usp_s3_index *index, const char *host, const char *other);

#endif
