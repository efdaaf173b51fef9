#include "json.h"

#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

static const struct options DEFAULTS = {
    .threshold = 1.5,
    .minimum_area = 5,
    .deblend_levels = 32,
    .deblend_contrast = 0.005,
    .mesh = 64,
};

/* Reading. The documents are not freed: arguments point into them. */

static bool in_range(const char *name, double value, double least, double most,
                     struct failure *failure) {
    if (value >= least && value <= most) return true;
    return fail(failure, "ValueError", "%s has to be from %.10g to %.10g, not %.10g", name,
                least, most, value);
}

static bool read_real(const char *name, yyjson_val *value, double least, double most, double *real,
                      struct failure *failure) {
    if (!yyjson_is_num(value)) return fail(failure, "TypeError", "%s has to be a number", name);
    *real = yyjson_get_num(value);
    return in_range(name, *real, least, most, failure);
}

static bool read_whole(const char *name, yyjson_val *value, double least, double most, int *whole,
                       struct failure *failure) {
    if (!yyjson_is_int(value))
        return fail(failure, "TypeError", "%s has to be a whole number", name);
    double number = yyjson_get_num(value);
    if (!in_range(name, number, least, most, failure)) return false;
    *whole = (int)number;
    return true;
}

static bool read_option(const char *name, yyjson_val *value, struct options *options,
                        struct failure *failure) {
    if (strcmp(name, "threshold") == 0)
        return read_real(name, value, 0.1, 1e6, &options->threshold, failure);
    if (strcmp(name, "minimum_area") == 0)
        return read_whole(name, value, 1, 1e6, &options->minimum_area, failure);
    if (strcmp(name, "deblend_levels") == 0)
        return read_whole(name, value, 1, 64, &options->deblend_levels, failure);
    if (strcmp(name, "deblend_contrast") == 0)
        return read_real(name, value, 0, 1, &options->deblend_contrast, failure);
    if (strcmp(name, "mesh") == 0) return read_whole(name, value, 8, 1e6, &options->mesh, failure);
    return fail(failure, "TypeError", "there is no keyword argument \"%s\"", name);
}

static yyjson_val *parse(struct text text) {
    return yyjson_doc_get_root(yyjson_read(text.start, text.length, 0));
}

bool read_arguments(struct text args, struct text kwargs, struct arguments *arguments,
                    struct failure *failure) {
    yyjson_val *list = parse(args);
    yyjson_val *image = yyjson_arr_get_first(list);
    if (yyjson_arr_size(list) != 1 || !yyjson_is_str(image))
        return fail(failure, "TypeError", "args has to be [image], image a string");
    arguments->image = yyjson_get_str(image);
    if (strlen(arguments->image) != yyjson_get_len(image))
        return fail(failure, "ValueError", "image has a zero byte in it");

    arguments->options = DEFAULTS;
    yyjson_obj_iter option = yyjson_obj_iter_with(parse(kwargs));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&option));) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (!read_option(yyjson_get_str(key), value, &arguments->options, failure)) return false;
    }
    return true;
}

/* Writing. */

/* qsort tells its comparison nothing else. */
static const float *flux_of;

static int by_flux_descending(const void *a, const void *b) {
    float first = flux_of[*(const int *)a], second = flux_of[*(const int *)b];
    return (first < second) - (first > second);
}

static int *brightest_first(const sep_catalog *sources) {
    int *order = malloc((size_t)sources->nobj * sizeof *order);
    for (int i = 0; order && i < sources->nobj; i++) order[i] = i;
    flux_of = sources->flux;
    if (order) qsort(order, (size_t)sources->nobj, sizeof *order, by_flux_descending);
    return order;
}

static void add_source(yyjson_mut_doc *json, yyjson_mut_val *list, const sep_catalog *from, int i) {
    yyjson_mut_val *source = yyjson_mut_arr_add_obj(json, list);
    yyjson_mut_obj_add_real(json, source, "x", from->x[i]);
    yyjson_mut_obj_add_real(json, source, "y", from->y[i]);
    yyjson_mut_obj_add_float(json, source, "flux", from->flux[i]);
    yyjson_mut_obj_add_float(json, source, "peak", from->peak[i]);
    yyjson_mut_obj_add_int(json, source, "area", from->npix[i]);
    yyjson_mut_obj_add_float(json, source, "a", from->a[i]);
    yyjson_mut_obj_add_float(json, source, "b", from->b[i]);
    yyjson_mut_obj_add_float(json, source, "theta", from->theta[i]);
    yyjson_mut_obj_add_int(json, source, "flags", from->flag[i]);
}

bool write_result(const struct arguments *arguments, const struct image *image,
                  const struct catalogue *catalogue, struct text *result, struct failure *failure) {
    yyjson_mut_doc *json = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(json);
    yyjson_mut_doc_set_root(json, root);
    yyjson_mut_obj_add_str(json, root, "image", arguments->image);
    yyjson_mut_obj_add_int(json, root, "width", image->width);
    yyjson_mut_obj_add_int(json, root, "height", image->height);

    yyjson_mut_val *background = yyjson_mut_obj_add_obj(json, root, "background");
    yyjson_mut_obj_add_float(json, background, "level", catalogue->background_level);
    yyjson_mut_obj_add_float(json, background, "rms", catalogue->background_rms);

    yyjson_mut_val *list = yyjson_mut_obj_add_arr(json, root, "sources");
    int *order = brightest_first(catalogue->sources);
    for (int i = 0; order && i < catalogue->sources->nobj; i++)
        add_source(json, list, catalogue->sources, order[i]);

    /* JSON has no NaN, which a source of no extent may have as its width. */
    yyjson_write_flag flags = YYJSON_WRITE_INF_AND_NAN_AS_NULL;
    result->start = yyjson_mut_write(json, flags, &result->length);
    if (!order || !result->start) return fail(failure, "MemoryError", "no room for the result");
    return true;
}
