// Read numbers from text: to the float32 of the double nearest to what is written, as json and
// NumPy do.  Whatever needs care is refused; the caller then reads it in Python.
#pragma once

#include <Python.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "powers.h"

namespace core {

// A number of more characters is refused.
constexpr long MAX_NUMBER = 128;

// So many digits fit into 64 bits.
constexpr long MAX_DIGITS = 19;

inline uint64_t bits_of(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    return bits;
}

// A number >= 0 with a sign, which the processor could not guess.
inline float with_sign(float size, bool negative) {
    uint32_t bits;
    std::memcpy(&bits, &size, 4);
    bits |= static_cast<uint32_t>(negative) << 31;
    std::memcpy(&size, &bits, 4);
    return size;
}

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// Eight characters in the order of the text, lowest first.
inline uint64_t load_8(const char* at) {
    uint64_t chars;
    std::memcpy(&chars, at, 8);
    return chars;
}

// A bit in each byte that is no digit, at least in the first of them.
inline uint64_t not_digits(uint64_t chars) {
    const uint64_t values = chars ^ 0x3030303030303030ull;  // of digits: 0 to 9
    return (values | (values + 0x7676767676767676ull)) & 0x8080808080808080ull;
}

// Three multiplications: digits to pairs, to fours, to the number.  Zero bytes count as digits 0.
inline uint64_t value_of_8(uint64_t chars) {
    const uint64_t mask = 0x000000FF000000FFull;
    chars &= 0x0F0F0F0F0F0F0F0Full;
    chars = chars * 10 + (chars >> 8);
    const uint64_t low = (chars & mask) * 0x000F424000000064ull;
    const uint64_t high = (chars >> 16 & mask) * 0x0000271000000001ull;
    return static_cast<uint32_t>((low + high) >> 32);
}

// Append the digits at `at` to `value`, which wraps around beyond 19 digits; returns their end.
inline const char* read_digits(const char* at, const char* end, uint64_t& value) {
    static constexpr uint64_t POWER[] = {1, 10, 100, 1'000, 10'000, 100'000, 1'000'000, 10'000'000};
    while (end - at >= 8) {
        const uint64_t chars = load_8(at);
        const uint64_t others = not_digits(chars);
        if (others) {
            // The digits before the first other character, of which there may be none, behind zeros.
            // The processor could not guess how many there are, so there is no branch for none.
            const int count = __builtin_ctzll(others) / 8;
            value = value * POWER[count] + value_of_8(chars << 8 << (56 - 8 * count));
            return at + count;
        }
        value = value * 100'000'000 + value_of_8(chars);
        at += 8;
    }
    for (; at < end && is_digit(*at); ++at) value = value * 10 + static_cast<uint64_t>(*at - '0');
    return at;
}

#ifdef __SSE2__
inline __m128i load_16(const char* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

// What characters are as digits: 0 to 9, and more for others.
inline __m128i as_digits(__m128i chars) { return _mm_sub_epi8(chars, _mm_set1_epi8('0')); }

// A bit for each of 16 bytes: whether it is from 0 to 9.
inline int are_digits(__m128i values) {
    return _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_subs_epu8(values, _mm_set1_epi8(9)), _mm_setzero_si128()));
}

// Digits, each in a byte, to pairs, to fours, to eights, to the number.
inline uint64_t value_of_16(__m128i values) {
    const __m128i tens = _mm_mullo_epi16(_mm_and_si128(values, _mm_set1_epi16(0xFF)), _mm_set1_epi16(10));
    const __m128i fours = _mm_madd_epi16(_mm_add_epi16(tens, _mm_srli_epi16(values, 8)), _mm_set1_epi32(1 << 16 | 100));
    const __m128i eights = _mm_madd_epi16(_mm_packs_epi32(fours, fours), _mm_set1_epi32(1 << 16 | 10'000));
    const uint64_t both = static_cast<uint64_t>(_mm_cvtsi128_si64(eights));
    return (both & 0xFFFFFFFF) * 100'000'000 + (both >> 32);
}

// Read a digit, a point, and at least 14 digits: what most languages write for a float that has
// no exponent.  33 characters are there.
//
// Returns where it ends; nullptr if it is something else, or if 14 digits do not decide the float32.
__attribute__((always_inline)) inline const char* read_long_fraction(const char* const start, float& number) {
    // Behind a sign, a digit and a point come at least 13 digits; so the end does not wait for the sign.
    const int more = __builtin_ctz(~are_digits(as_digits(load_16(start + 16))));
    const char* const end = start + 16 + more;
    const bool negative = *start == '-';
    const char* const at = start + negative;
    const __m128i front = as_digits(load_16(at));
    if (are_digits(front) != 0xFFFD || at[1] != '.' || more == 16 || (*end | 0x20) == 'e') return nullptr;
    const uint64_t behind = value_of_16(_mm_and_si128(front, _mm_set_epi32(-1, -1, -1, static_cast<int>(0xFFFF0000))));
    const uint64_t digits = behind + static_cast<uint64_t>(*at - '0') * 100'000'000'000'000;
    const double near = static_cast<double>(static_cast<int64_t>(digits)) * 1e-14;
    const uint64_t low = bits_of(near) & 0x1FFFFFFF;
    if (low - (0x10000000 - 0x10010) <= 0x10020 || near < 0x1p-9) return nullptr;
    number = with_sign(static_cast<float>(near), negative);
    return end;
}
#endif

// The double nearest to a number of JSON's grammar, by Python's own function.
inline bool read_exactly(const char* start, const char* end, double& value) {
    char text[MAX_NUMBER + 1];
    if (end - start > MAX_NUMBER) return false;
    std::memcpy(text, start, static_cast<size_t>(end - start));
    text[end - start] = '\0';
    value = PyOS_string_to_double(text, nullptr, nullptr);
    if (!PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
}

// Read the number that starts at `at` < `end`, by JSON's grammar.
//
// Returns where it ends; nullptr if there is no such number, or one that is not finite as float32.
// An integer has no minus zero in JSON; in CSV it has.
template <bool MINUS_ZERO>
__attribute__((always_inline)) inline const char* read_number(const char* at, const char* end, float& number) {
#ifdef __SSE2__
    if (end - at > 33)
        if (const char* const behind = read_long_fraction(at, number)) return behind;
#endif
    const char* const start = at;
    const bool negative = *at == '-';
    at += negative;
    if (at == end || !is_digit(*at)) return nullptr;

    uint64_t digits = 0;  // all of the number's, without the point
    const char* const first = at;
    if (end - at > 1 && !is_digit(at[1])) {  // one, as in most numbers
        digits = static_cast<uint64_t>(*at++ - '0');
    } else {
        if (*at == '0' && end - at > 1) return nullptr;
        at = read_digits(at, end, digits);
    }
    long count = at - first, exponent = 0;
    bool integer = true;
    if (at < end && *at == '.') {
        integer = false;
        const char* const fraction = ++at;
        if (at == end || !is_digit(*at)) return nullptr;
        at = read_digits(at, end, digits);
        count += at - fraction;
        exponent = fraction - at;
    }
    if (count > MAX_DIGITS)  // zeros in front do not count
        for (const char* zero = first; zero < at && (*zero == '0' || *zero == '.'); ++zero) count -= *zero == '0';
    if (at < end && (*at == 'e' || *at == 'E')) {
        integer = false;
        ++at;
        const bool down = at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) ++at;
        if (at == end || !is_digit(*at)) return nullptr;
        long power = 0;
        for (; at < end && is_digit(*at); ++at)
            if (power < 10'000) power = power * 10 + (*at - '0');
        exponent += down ? -power : power;
    }

    if (count <= MAX_DIGITS && exponent >= MIN_POWER && exponent <= MAX_POWER) {
        if (digits == 0) {
            number = negative && (MINUS_ZERO || !integer) ? -0.0f : 0.0f;
            return at;
        }
        // Three roundings, so off by at most four units in the double's last place.  The double's
        // lowest 29 bits decide the float32's; near their middle the double must be exact.
        const double near = static_cast<double>(digits) * POWERS.as_double(static_cast<int>(exponent));
        const uint64_t low = bits_of(near) & 0x1FFFFFFF;
        if (low - (0x10000000 - 8) > 16 && near > 1.2e-38 && near < 3.4e38) {
            number = with_sign(static_cast<float>(near), negative);
            return at;
        }
    }
    double exact;
    if (!read_exactly(start, at, exact)) return nullptr;
    number = static_cast<float>(exact);
    return std::isfinite(number) ? at : nullptr;
}

}  // namespace core
