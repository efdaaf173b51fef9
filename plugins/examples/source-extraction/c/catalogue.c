#include "catalogue.h"

/* What SEP takes where nothing else is said. */
enum { MEDIAN_MESHES = 3, KERNEL_SIDE = 3, CLEAN = 1 };
static const float KERNEL[KERNEL_SIDE * KERNEL_SIDE] = {1, 2, 1, 2, 4, 2, 1, 2, 1};
static const double CLEAN_EXPONENT = 1.0;

static bool refused_by_sep(int status, struct failure *failure) {
    char message[61], detail[512];
    sep_get_errmsg(status, message);
    sep_get_errdetail(detail);
    return fail(failure, "sep.Error", "%s: %s", message, detail);
}

static sep_image as_sep_image(const struct image *image) {
    return (sep_image){
        .data = image->pixels, .dtype = SEP_TFLOAT, .w = image->width, .h = image->height};
}

bool subtract_background(const struct options *options, struct image *image,
                         struct catalogue *catalogue, struct failure *failure) {
    sep_image whole = as_sep_image(image);
    sep_bkg *background;
    int status = sep_background(&whole, options->mesh, options->mesh, MEDIAN_MESHES, MEDIAN_MESHES,
                                0.0, &background);
    if (status != 0) return refused_by_sep(status, failure);
    catalogue->background_level = sep_bkg_global(background);
    catalogue->background_rms = sep_bkg_globalrms(background);
    status = sep_bkg_subarray(background, image->pixels, SEP_TFLOAT);
    sep_bkg_free(background);
    return status == 0 || refused_by_sep(status, failure);
}

bool extract(const struct options *options, const struct image *image,
             struct catalogue *catalogue, struct failure *failure) {
    sep_image whole = as_sep_image(image);
    whole.noise_type = SEP_NOISE_STDDEV;
    whole.noiseval = catalogue->background_rms;
    int status = sep_extract(&whole, (float)options->threshold, SEP_THRESH_REL,
                             options->minimum_area, KERNEL, KERNEL_SIDE, KERNEL_SIDE,
                             SEP_FILTER_CONV, options->deblend_levels, options->deblend_contrast,
                             CLEAN, CLEAN_EXPONENT, &catalogue->sources);
    return status == 0 || refused_by_sep(status, failure);
}
