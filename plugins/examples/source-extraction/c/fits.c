#include "fits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A FITS file is a row of blocks; a header is a row of cards that ends with the card END. */
enum { BLOCK = 2880, CARD = 80, AXES_READ = 9, SIDE_MOST = 1 << 20 };

/* What has to be known about a header and data unit. */
struct unit {
    bool is_image;
    long long bitpix, axes, axis[AXES_READ], parameters, groups;
    double scale, zero;
    bool has_blank;
    double blank;
};

static bool malformed(struct failure *failure, const char *what) {
    return fail(failure, "fits.Malformed", "%s", what);
}

static double number(const char *card) {
    char text[CARD - 10 + 1];
    memcpy(text, card + 10, CARD - 10);
    text[CARD - 10] = 0;
    /* FITS also writes the exponent of a double as Fortran does: 1.5D3. */
    char *exponent = strchr(text, 'D');
    if (exponent) *exponent = 'E';
    return strtod(text, NULL);
}

/* -1, which nothing here may be, for what is no whole number of sensible size. */
static long long whole(double value) {
    return fabs(value) < 1e15 ? (long long)value : -1;
}

static bool is(const char *card, const char *keyword) {
    return memcmp(card, keyword, strlen(keyword)) == 0;
}

static void read_card(const char *card, struct unit *unit) {
    double value = number(card);
    if (is(card, "XTENSION=")) unit->is_image = is(card + 10, "'IMAGE   '");
    if (is(card, "BITPIX  =")) unit->bitpix = whole(value);
    if (is(card, "NAXIS   =")) unit->axes = whole(value);
    if (is(card, "NAXIS") && card[5] >= '1' && card[5] <= '9' && card[6] == ' ')
        unit->axis[card[5] - '1'] = whole(value);
    if (is(card, "PCOUNT  =")) unit->parameters = whole(value);
    if (is(card, "GCOUNT  =")) unit->groups = whole(value);
    if (is(card, "BSCALE  =")) unit->scale = value;
    if (is(card, "BZERO   =")) unit->zero = value;
    if (is(card, "BLANK   =")) unit->has_blank = true, unit->blank = value;
}

/* Reads the header at `*offset` and moves that behind its last block. */
static bool read_header(struct bytes file, size_t *offset, struct unit *unit) {
    *unit = (struct unit){.is_image = true, .groups = 1, .scale = 1};
    for (size_t at = *offset; at + CARD <= file.length; at += CARD) {
        const char *card = (const char *)file.start + at;
        if (is(card, "END     ")) {
            *offset = (at / BLOCK + 1) * BLOCK;
            return true;
        }
        read_card(card, unit);
    }
    return false;
}

static bool multiply(long long *value, long long factor, long long most) {
    if (factor < 0 || (factor > 0 && *value > most / factor)) return false;
    *value *= factor;
    return true;
}

/* Says how many bytes of data the unit has, if that is no more than `most`. */
static bool data_length(const struct unit *unit, long long most, long long *length) {
    *length = unit->axes > 0;
    for (int i = 0; i < unit->axes; i++)
        if (!multiply(length, unit->axis[i], most)) return false;
    if (unit->parameters < 0 || unit->parameters > most) return false;
    *length += unit->parameters;
    return multiply(length, unit->groups, most) &&
           multiply(length, llabs(unit->bitpix) / 8, most);
}

static double pixel(const uint8_t *at, long long bitpix) {
    int size = (int)llabs(bitpix) / 8;
    uint64_t bits = 0;
    for (int i = 0; i < size; i++) bits = bits << 8 | at[i];
    uint32_t low = (uint32_t)bits;
    float single;
    double value;
    switch (bitpix) {
    case 8:
        return (double)bits;
    case 16:
        return (int16_t)bits;
    case 32:
        return (int32_t)bits;
    case 64:
        return (double)(int64_t)bits;
    case -32:
        memcpy(&single, &low, sizeof single);
        return single;
    default:
        memcpy(&value, &bits, sizeof value);
        return value;
    }
}

static bool read_pixels(const uint8_t *data, const struct unit *unit, struct image *image,
                        struct failure *failure) {
    if (unit->axis[0] > SIDE_MOST || unit->axis[1] > SIDE_MOST)
        return malformed(failure, "the image is too wide or too high");
    image->width = (int)unit->axis[0];
    image->height = (int)unit->axis[1];
    size_t count = (size_t)image->width * (size_t)image->height;
    size_t size = (size_t)llabs(unit->bitpix) / 8;
    image->pixels = malloc(count * sizeof *image->pixels);
    if (!image->pixels) return fail(failure, "MemoryError", "no room for %zu pixels", count);
    for (size_t i = 0; i < count; i++) {
        double value = pixel(data + i * size, unit->bitpix);
        bool blank = unit->has_blank && unit->bitpix > 0 && value == unit->blank;
        image->pixels[i] = blank ? NAN : (float)(unit->zero + unit->scale * value);
    }
    return true;
}

static bool holds_image(const struct unit *unit) {
    if (!unit->is_image || unit->axes < 2 || unit->axis[0] == 0 || unit->axis[1] == 0) return false;
    for (int i = 2; i < unit->axes; i++)
        if (unit->axis[i] != 1) return false;
    return true;
}

static bool readable(long long bitpix) {
    return bitpix == 8 || bitpix == 16 || bitpix == 32 || bitpix == 64 || bitpix == -32 ||
           bitpix == -64;
}

bool read_fits(struct bytes file, struct image *image, struct failure *failure) {
    if (file.length < BLOCK || !is((const char *)file.start, "SIMPLE  ="))
        return malformed(failure, "the file does not begin with SIMPLE");
    struct unit unit;
    for (size_t offset = 0; offset < file.length;) {
        if (!read_header(file, &offset, &unit)) return malformed(failure, "a header has no END");
        if (unit.axes < 0 || unit.axes > AXES_READ || !readable(unit.bitpix))
            return malformed(failure, "its NAXIS or BITPIX is none that there may be");
        long long room = offset < file.length ? (long long)(file.length - offset) : 0;
        long long length;
        if (!data_length(&unit, room, &length))
            return malformed(failure, "the file ends before its data");
        if (holds_image(&unit)) return read_pixels(file.start + offset, &unit, image, failure);
        offset += ((size_t)length + BLOCK - 1) / BLOCK * BLOCK;
    }
    return fail(failure, "fits.NoImage", "no unit of the file holds an uncompressed 2-d image");
}
