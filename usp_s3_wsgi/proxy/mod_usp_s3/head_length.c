/*
 * HEAD requests of empty objects: keep "Content-Length: 0" in the response.
 *
 * httpd removes it, as a handler may have sent no body because of the method. Here it is the object's length. So a filter
 * clears r->header_only while the header is sent.
 */

#include "mod_usp_s3.h"

static ap_filter_rec_t *zero_length_filter_handle;

/* Remove the data of a body. Returns whether there is an error bucket, which an error page will replace. */
static int drop_data(apr_bucket_brigade *brigade)
{
    apr_bucket *bucket = APR_BRIGADE_FIRST(brigade);
    int has_error = 0;

    while (bucket != APR_BRIGADE_SENTINEL(brigade)) {
        apr_bucket *this = bucket;

        bucket = APR_BUCKET_NEXT(bucket);
        has_error |= AP_BUCKET_IS_ERROR(this);
        if (!APR_BUCKET_IS_METADATA(this))
            apr_bucket_delete(this);
    }
    return has_error;
}

static apr_status_t zero_length_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r;
    const char *length = apr_table_get(r->headers_out, "Content-Length");
    apr_status_t status;

    if (r->main || !r->header_only) { /* added by a SetOutputFilter directive: not supported */
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }
    r->header_only = drop_data(brigade) || !length || strcmp(length, "0") != 0;
    status = ap_pass_brigade(filter->next, brigade);
    r->header_only = 1;
    return status;
}

void usp_s3_keep_zero_length_of_head(request_rec *r)
{
    if (!r->main && r->header_only)
        ap_add_output_filter_handle(zero_length_filter_handle, NULL, r, r->connection);
}

void usp_s3_register_head_length(void)
{
    /* Runs after the content filters and before the protocol filters. */
    zero_length_filter_handle = ap_register_output_filter("USP_S3_ZERO_LENGTH", zero_length_filter, NULL,
                                                          AP_FTYPE_PROTOCOL - 1);
}
