// Powers of ten, to 128 bits, computed by the compiler.
#pragma once

#include <cstdint>

namespace core {

// 10^k is in [high:low, high:low + 1) times 2^(floor_log2_pow10(k) - 127), and high has its top
// bit set.  Exact powers have exactly the value high:low; any other one lies below it.
struct Power {
    uint64_t high, low;
};

constexpr int MIN_POWER = -64, MAX_POWER = 64;

constexpr int floor_log2_pow10(int k) { return (k * 1741647) >> 19; }

class Powers {
  public:
    constexpr Powers() : powers(), doubles() {
        Wide up, down;
        up.limb[0] = 1;                  // 10^0
        down.limb[LIMBS - 1] = 1ull << 63;  // 10^0 times 2^383; 10^-64 keeps 170 of these bits
        for (int k = 0; k <= MAX_POWER; ++k) {
            set(k, up, false);
            up.times_10();
        }
        for (int k = -1; k >= MIN_POWER; --k) {
            down.over_10();
            set(k, down, true);
        }
    }

    // 10^k rounded up to 128 bits.
    constexpr const Power& operator[](int k) const { return powers[k - MIN_POWER]; }

    // 10^k as a double, which is off by at most 0.51 units in the last place.
    constexpr double as_double(int k) const { return doubles[k - MIN_POWER]; }

  private:
    static constexpr int LIMBS = 6;

    // An integer of 384 bits, the lowest first.
    struct Wide {
        uint64_t limb[LIMBS] = {};

        constexpr void times_10() {
            unsigned __int128 carry = 0;
            for (int i = 0; i < LIMBS; ++i) {
                carry += static_cast<unsigned __int128>(limb[i]) * 10;
                limb[i] = static_cast<uint64_t>(carry);
                carry >>= 64;
            }
        }

        constexpr void over_10() {
            unsigned __int128 rest = 0;
            for (int i = LIMBS - 1; i >= 0; --i) {
                rest = rest << 64 | limb[i];
                limb[i] = static_cast<uint64_t>(rest / 10);
                rest %= 10;
            }
        }

        constexpr bool bit(int place) const {
            return place >= 0 && (limb[place / 64] >> place % 64 & 1);
        }
    };

    constexpr void set(int k, const Wide& wide, bool inexact) {
        int top = 64 * LIMBS - 1;
        while (!wide.bit(top)) --top;
        Power power = {0, 0};
        for (int place = top; place > top - 64; --place)
            power.high = power.high << 1 | wide.bit(place);
        for (int place = top - 64; place > top - 128; --place)
            power.low = power.low << 1 | wide.bit(place);
        for (int place = top - 128; place >= 0; --place) inexact = inexact || wide.bit(place);
        power.low += inexact;
        power.high += inexact && !power.low;
        powers[k - MIN_POWER] = power;

        double value = static_cast<double>(power.high);
        for (int exponent = floor_log2_pow10(k) - 63; exponent; exponent += exponent < 0 ? 1 : -1)
            value *= exponent < 0 ? 0.5 : 2.0;
        doubles[k - MIN_POWER] = value;
    }

    Power powers[MAX_POWER - MIN_POWER + 1];
    double doubles[MAX_POWER - MIN_POWER + 1];
};

inline constexpr Powers POWERS;

}  // namespace core
