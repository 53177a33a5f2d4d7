// Write a float32 as text: the double that it equals as Python's repr does, for JSON, or itself as
// NumPy's str does, for CSV.  The digits are the fewest that read back as the same number.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "powers.h"

namespace core {

// A number takes at most so many characters: -1.1754943508222875e-38.
constexpr int MAX_WRITTEN = 24;

// digits * 10^exponent
struct Decimal {
    uint64_t digits;
    int exponent;
};

// floor(power * value / 2^127), whose lowest bit is also set if there is a rest.
inline uint64_t round_to_odd(const Power& power, uint64_t value) {
    const auto low = static_cast<unsigned __int128>(power.low) * value;
    const auto high = static_cast<unsigned __int128>(power.high) * value + (low >> 64);
    return static_cast<uint64_t>(high >> 64) | (static_cast<uint64_t>(high) > 1);
}

// The shortest decimal that rounds to significand * 2^exponent; of several, the nearest.
//
// This is Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles", 2021), for any
// significand of up to 53 bits.  `closer`: the next lower number of the format is half as far away
// as the next higher one.
inline Decimal shortest(uint64_t significand, int exponent, bool closer) {
    const bool odd = significand % 2;  // an even one is what its bounds round to
    const uint64_t value = 4 * significand;
    const int k = (exponent * 1262611 - (closer ? 524031 : 0)) >> 22;
    const int shift = exponent + floor_log2_pow10(-k) + 1;
    const Power& power = POWERS[-k];
    const uint64_t lower = round_to_odd(power, (value - 2 + closer) << shift) + odd;
    const uint64_t scaled = round_to_odd(power, value << shift);
    const uint64_t upper = round_to_odd(power, (value + 2) << shift) - odd;

    const uint64_t down = scaled / 4;
    if (down >= 10) {
        const uint64_t tens = down / 10;
        const bool below = lower <= 40 * tens, above = 40 * tens + 40 <= upper;
        if (below != above) return {tens + above, k + 1};
    }
    const bool below = lower <= 4 * down, above = 4 * down + 4 <= upper;
    if (below != above) return {down + above, k};
    const uint64_t middle = 4 * down + 2;
    return {down + (scaled > middle || (scaled == middle && down % 2)), k};
}

// The digits of 0 to 99, two for each.
struct Pairs {
    char digits[200];

    constexpr Pairs() : digits() {
        for (int i = 0; i < 100; ++i) {
            digits[2 * i] = static_cast<char>('0' + i / 10);
            digits[2 * i + 1] = static_cast<char>('0' + i % 10);
        }
    }
};

inline constexpr Pairs PAIRS;

// The digits of `value` > 0 so that they end at `end`; returns their start.
inline char* digits_before(char* end, uint64_t value) {
    while (value >= 100'000'000) {
        const uint32_t low = static_cast<uint32_t>(value % 100'000'000);
        value /= 100'000'000;
        end -= 8;  // the pairs do not wait for each other
        std::memcpy(end, PAIRS.digits + 2 * (low / 1'000'000), 2);
        std::memcpy(end + 2, PAIRS.digits + 2 * (low / 10'000 % 100), 2);
        std::memcpy(end + 4, PAIRS.digits + 2 * (low / 100 % 100), 2);
        std::memcpy(end + 6, PAIRS.digits + 2 * (low % 100), 2);
    }
    uint32_t rest = static_cast<uint32_t>(value);
    for (; rest >= 100; rest /= 100) {
        end -= 2;
        std::memcpy(end, PAIRS.digits + 2 * (rest % 100), 2);
    }
    for (; rest; rest /= 10) *--end = static_cast<char>('0' + rest % 10);
    return end;
}

// A decimal as Python's repr spells doubles and NumPy float32s, with an exponent or without.
inline char* write_decimal(char* out, Decimal decimal, bool scientific) {
    char buffer[20];
    char* end = buffer + sizeof buffer;
    char* const digits = digits_before(end, decimal.digits);
    const int place = static_cast<int>(end - digits) + decimal.exponent - 1;  // the first digit's
    while (end[-1] == '0') --end;
    const int count = static_cast<int>(end - digits);
    const auto put = [&out](const char* from, int length) {
        std::memcpy(out, from, static_cast<size_t>(length));
        out += length;
    };
    const auto fill = [&out](int length) {
        std::memset(out, '0', static_cast<size_t>(length));
        out += length;
    };
    if (scientific) {
        *out++ = *digits;
        if (count > 1) {
            *out++ = '.';
            put(digits + 1, count - 1);
        }
        *out++ = 'e';
        *out++ = place < 0 ? '-' : '+';
        const int power = std::abs(place);  // below 100, for float32
        *out++ = static_cast<char>('0' + power / 10);
        *out++ = static_cast<char>('0' + power % 10);
    } else if (place < 0) {
        put("0.", 2);
        fill(-place - 1);
        put(digits, count);
    } else if (count > place + 1) {
        put(digits, place + 1);
        *out++ = '.';
        put(digits + place + 1, count - place - 1);
    } else {
        put(digits, count);
        fill(place + 1 - count);
        put(".0", 2);
    }
    return out;
}

// Write `number`, which is finite.  AS_DOUBLE: the digits of the double that it equals.
template <bool AS_DOUBLE>
inline char* write_number(char* out, float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, 4);
    if (bits >> 31) *out++ = '-';
    int exponent = static_cast<int>(bits >> 23 & 0xFF);
    uint64_t significand = bits & 0x7FFFFF;
    if (!exponent && !significand) {
        std::memcpy(out, "0.0", 3);
        return out + 3;
    }
    bool closer = !significand && exponent > 1;
    if (exponent)
        significand |= 1 << 23;
    else
        exponent = 1;
    exponent -= 150;
    if (AS_DOUBLE) {
        const int shift = __builtin_clzll(significand) - 11;  // to 53 bits
        significand <<= shift;
        exponent -= shift;
        closer = significand == 1ull << 52;
    }
    // Both ask the number and not its digits: the float32 next to 0.0001 is less, and 1e-04.
    const double size = std::fabs(static_cast<double>(number));
    const bool scientific = size < 1e-4 || size >= 1e16;
    return write_decimal(out, shortest(significand, exponent, closer), scientific);
}

}  // namespace core
