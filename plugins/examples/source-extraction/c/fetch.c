#include "fetch.h"

#include "plugin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static bool read_whole(FILE *file, struct bytes *bytes) {
    if (fseek(file, 0, SEEK_END) != 0) return false;
    long length = ftell(file);
    if (length < 0 || fseek(file, 0, SEEK_SET) != 0) return false;
    bytes->length = (size_t)length;
    bytes->start = malloc(bytes->length + 1);
    return bytes->start && fread(bytes->start, 1, bytes->length, file) == bytes->length;
}

static bool read_file(const char *path, struct bytes *bytes, struct failure *failure) {
    FILE *file = fopen(path, "rb");
    bool whole = file && read_whole(file, bytes);
    int reason = errno;
    if (file) fclose(file);
    if (whole) return true;
    /* Whoever writes images may not be done with this one. */
    return fail_for_now(failure, "OSError", "%s: %s", path, strerror(reason));
}

static bool refused(const char *url, nightshift_plugin_http_error_t *error,
                    struct failure *failure) {
    /* In the same place for each error that has one. */
    plugin_string_t *detail = &error->val.failed;
    switch (error->tag) {
    case NIGHTSHIFT_PLUGIN_HTTP_ERROR_DENIED:
    case NIGHTSHIFT_PLUGIN_HTTP_ERROR_INVALID:
        return fail(failure, "fetch.Refused", "%s: %.*s", url, (int)detail->len, detail->ptr);
    case NIGHTSHIFT_PLUGIN_HTTP_ERROR_TOO_LARGE:
        return fail(failure, "fetch.Refused", "%s: more than %llu bytes", url,
                    error->val.too_large);
    case NIGHTSHIFT_PLUGIN_HTTP_ERROR_TIMEOUT:
        return fail_for_now(failure, "TimeoutError", "%s: no answer in time", url);
    default:
        return fail_for_now(failure, "ConnectionError", "%s: %.*s", url, (int)detail->len,
                            detail->ptr);
    }
}

static bool download(const char *url, struct bytes *bytes, struct failure *failure) {
    nightshift_plugin_http_request_t request = {0};
    plugin_string_set(&request.method, "GET");
    plugin_string_set(&request.url, url);
    nightshift_plugin_http_response_t response;
    nightshift_plugin_http_error_t error;
    if (!nightshift_plugin_http_fetch(&request, &response, &error))
        return refused(url, &error, failure);
    if (response.status != 200)
        return fail_for_now(failure, "ConnectionError", "%s: answered with status %d", url,
                            response.status);
    bytes->start = response.body.ptr;
    bytes->length = response.body.len;
    return true;
}

bool fetch(const char *image, struct bytes *bytes, struct failure *failure) {
    if (starts_with(image, "/data/")) return read_file(image, bytes, failure);
    if (starts_with(image, "http://") || starts_with(image, "https://"))
        return download(image, bytes, failure);
    return fail(failure, "ValueError", "\"%s\" is neither a path below /data/ nor a URL", image);
}
