/* The random numbers of glibc.
 *
 * When SEP separates merged sources it hands out their faint pixels with the C library's rand_r.
 * The library that is linked into a plugin has another generator than glibc, and so would give
 * some pixels, and with them flux, to another source than SEP does on Linux. The linker takes this
 * function instead of that of the library.
 *
 * A number is put together from 11, 10 and 10 bits of three steps of the generator that the C
 * standard has as its example. */

#include <stdlib.h>

static unsigned int next_bits(unsigned int *seed, unsigned int count) {
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 16) & ((1u << count) - 1);
}

int rand_r(unsigned int *seed) {
    unsigned int number = next_bits(seed, 11);
    number = number << 10 ^ next_bits(seed, 10);
    return (int)(number << 10 ^ next_bits(seed, 10));
}
