/* What section_match.c (which sections apply to a request), section_index.c and setting_names.c share. */

#ifndef USP_S3_SECTIONS_H
#define USP_S3_SECTIONS_H

#include "mod_usp_s3.h"

#include "apr_hash.h"

#define BUCKET_URL "S3BucketURL"

/* ---------------------------------------------------------------- setting_names.c: names and values */

/* Whether so many letters are the name of a setting, in upper or lower case. */
int usp_s3_is_setting_name(const char *name, size_t length);

/* The first setting among variables, else NULL; names in capitals only count if capitals is true. */
const apr_table_entry_t *usp_s3_first_setting(const apr_array_header_t *all, int capitals);

/* The last value of a variable, NULL if there is none or if it is empty. */
const char *usp_s3_get_value(const apr_array_header_t *all, const char *name);

/* Whether variables contain credentials, or a source of them. */
int usp_s3_has_credentials(const apr_array_header_t *all);

/* The rest of a text after a prefix, NULL if it has another one. */
const char *usp_s3_skip_prefix(const char *text, const char *prefix);

char *usp_s3_lowercase(apr_pool_t *pool, const char *text);

/* ---------------------------------------------------------------- setting_names.c: URLs */

/* The URL without a socket before it: unix:/run/s3.sock|http://localhost/ */
const char *usp_s3_skip_socket(const char *url);

/* A URL, or a pattern of one, without user and password. */
const char *usp_s3_url_for_log(apr_pool_t *pool, const char *url);

/* Parse a URL; returns whether it has a scheme and a host. */
int usp_s3_parse_url(apr_pool_t *pool, const char *url, apr_uri_t *uri);

/* Whether two URLs have the same scheme, host and port, in upper or lower case, with or without the default port. */
int usp_s3_is_same_origin(const apr_uri_t *one, const apr_uri_t *other);

/* The decoded path of a URL, with a slash at its end. */
const char *usp_s3_decoded_directory(apr_pool_t *pool, const apr_uri_t *uri);

/* Whether a URL has the same origin as another one and a path below it. False if one of them is invalid. */
int usp_s3_is_url_below(apr_pool_t *pool, const char *url, const char *other);

/* ---------------------------------------------------------------- section_index.c */

/* A <Proxy> section with settings, and its position among all those of its server. */
typedef struct {
    ap_conf_vector_t *section;
    int position;
} usp_s3_indexed_section;

/* The <Proxy> sections of a server that contain settings: there may be thousands. */
typedef struct {
    apr_hash_t *by_host;          /* by host in lowercase: arrays of usp_s3_indexed_section */
    apr_array_header_t *patterns; /* usp_s3_indexed_section: patterns that may match several hosts */
} usp_s3_section_index;

/* mod_proxy's configuration of a section. */
const proxy_dir_conf *usp_s3_get_proxy_config(ap_conf_vector_t *section);

/* Whether a section has a URL and not a pattern. */
int usp_s3_is_literal_section(const proxy_dir_conf *proxy);

/* Whether mod_proxy applies a section to a URL. */
int usp_s3_mod_proxy_applies(const proxy_dir_conf *proxy, const char *url);

/* Whether a section's settings count for a URL whose path ends before url[path_end]. */
int usp_s3_section_matches(const proxy_dir_conf *proxy, const char *url, size_t path_end);

/* Whether a section matches any host: <Proxy "*"> */
int usp_s3_section_matches_any_host(const proxy_dir_conf *proxy);

/* For usp_s3_any_section: whether a section sets a setting, in capitals or not. */
int usp_s3_section_has_setting(ap_conf_vector_t *section, const void *unused);

/* Whether rules in a <Proxy> section set a setting (SetEnvIf, RewriteRule [E=]). */
int usp_s3_section_has_setting_rules(ap_conf_vector_t *section);

/* The index of a server; made from the pool if the server was not indexed after the configuration was read. */
const usp_s3_section_index *usp_s3_get_section_index(apr_pool_t *pool, const proxy_server_conf *conf);

/* The sections that may match URLs of two hosts (usp_s3_indexed_section), in order. The hosts are in lowercase. */
apr_array_header_t *usp_s3_find_candidates(apr_pool_t *pool, const usp_s3_section_index *index, const char *host,
                                           const char *other_host);

#endif
