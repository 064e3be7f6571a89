/* LOLWUT's picture. Each terrace is a flat step whose width shrinks towards the top; a walk of random steps decides how
 * much, rice stands on some of them, and what is sky above has stars. */

#include "server/lolwut.h"

#include "server/version.h"

enum { WIDTH = 64, TERRACES = 9, SKY = 4 };

static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 (Steele, Lea, Flood, 2014) */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static char sky(uint64_t *state) {
    uint64_t roll = next_random(state) % 40;
    return roll == 0 ? '*' : roll < 3 ? '.' : ' ';
}

static char field(uint64_t *state) {
    static const char plants[] = "\"\"\"',;_____";
    return plants[next_random(state) % (sizeof(plants) - 1)];
}

static void draw_row(struct text *text, unsigned left, unsigned right, uint64_t *state) {
    char row[WIDTH + 1];
    for (unsigned x = 0; x < WIDTH; x++) {
        if (x == left)
            row[x] = '/';
        else if (x == right)
            row[x] = '\\';
        else
            row[x] = x > left && x < right ? field(state) : sky(state);
    }
    unsigned length = WIDTH;
    while (length && row[length - 1] == ' ') length--;
    row[length] = '\0';
    text_add(text, "%s\n", row);
}

void lolwut_draw(struct text *text, uint64_t seed) {
    unsigned left[TERRACES], right[TERRACES];
    uint64_t state = seed;
    left[0] = 1;
    right[0] = WIDTH - 2;
    for (unsigned i = 1; i < TERRACES; i++) {
        left[i] = left[i - 1] + 1 + (unsigned)(next_random(&state) % 5);
        right[i] = right[i - 1] - 1 - (unsigned)(next_random(&state) % 5);
        if (left[i] + 1 < right[i]) continue;
        left[i] = left[i - 1] + 1;
        right[i] = right[i - 1] > left[i] + 1 ? right[i - 1] - 1 : left[i] + 1;
    }
    for (unsigned i = 0; i < SKY; i++) draw_row(text, WIDTH, WIDTH, &state);
    for (unsigned i = TERRACES; i-- > 0;) draw_row(text, left[i], right[i], &state);
    text_add(text, "\nTerrace ver. %s, compatible with Redis ver. %s\n", TERRACE_VERSION, COMPATIBLE_VERSION);
}
