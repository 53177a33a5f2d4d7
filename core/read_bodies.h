// Read bodies of numbers: nested lists (JSON), lines (CSV), or an array as numpy.save writes it (NPY).
//
// All else is refused; the caller then reads it in Python.
#pragma once

#include <Python.h>

#include <cstring>

#include "read_numbers.h"

namespace core {

constexpr int MAX_DIMENSIONS = 8;
constexpr Py_ssize_t FLOAT = sizeof(float);

// The lengths of the outermost list of each body, and of the lists in it, which are the same in
// all bodies.
struct Shape {
    int depth = 0;  // 0: not known yet
    Py_ssize_t lengths[MAX_DIMENSIONS] = {};
};

// Where the numbers go.
struct Numbers {
    float* at;
    float* end;
};

inline const char* skip_blanks(const char* at, const char* end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) ++at;
    return at;
}

// Read nested lists of numbers.  `shape` has the lengths that lists must have, 0 where the first
// list of a level decides.  Returns whether `at` to `end` is that and nothing else.
inline bool read_lists(const char* at, const char* end, Numbers& numbers, Shape& shape) {
    Py_ssize_t counts[MAX_DIMENSIONS] = {};
    int level = -1;
    at = skip_blanks(at, end);
    for (;;) {
        while (at < end && *at == '[') {
            if (++level == (shape.depth ? shape.depth : MAX_DIMENSIONS)) return false;
            counts[level] = 0;
            at = skip_blanks(at + 1, end);
        }
        if (level < 0) return false;
        if (!shape.depth) shape.depth = level + 1;
        if (level != shape.depth - 1) return false;
        for (;;) {
            if (at == end || numbers.at == numbers.end) return false;
            at = read_number<false>(at, end, *numbers.at);
            if (!at) return false;
            ++numbers.at;
            ++counts[level];
            if (at < end && *at == ',') {
                ++at;
                if (at < end && *at == ' ') ++at;
                if (at < end && *at <= ' ') at = skip_blanks(at, end);
                continue;
            }
            at = skip_blanks(at, end);
            if (at == end) return false;
            if (*at != ',') break;
            at = skip_blanks(at + 1, end);
        }
        while (at < end && *at == ']') {
            if (!shape.lengths[level]) shape.lengths[level] = counts[level];
            if (shape.lengths[level] != counts[level]) return false;
            at = skip_blanks(at + 1, end);
            if (--level < 0) return at == end;
            ++counts[level];
        }
        if (at == end || *at != ',') return false;
        at = skip_blanks(at + 1, end);
        if (at == end || *at != '[') return false;
    }
}

// Read lines of numbers between commas; empty lines only at the end.
inline bool read_lines(const char* at, const char* end, Numbers& numbers, Shape& shape) {
    const auto skip = [&at, end] {
        while (at < end && (*at == ' ' || *at == '\t')) ++at;
    };
    while (end > at && end[-1] == '\n') end -= end - at > 1 && end[-2] == '\r' ? 2 : 1;
    shape.depth = 2;
    for (;;) {
        Py_ssize_t columns = 0;
        for (;;) {
            skip();
            if (at == end || numbers.at == numbers.end) return false;
            at = read_number<true>(at, end, *numbers.at);
            if (!at) return false;
            ++numbers.at;
            ++columns;
            skip();
            if (at == end || *at != ',') break;
            ++at;
        }
        if (!shape.lengths[1]) shape.lengths[1] = columns;
        if (shape.lengths[1] != columns) return false;
        ++shape.lengths[0];
        if (at == end) return true;
        if (*at == '\r') ++at;
        if (at == end || *at != '\n') return false;
        ++at;
    }
}

// Read an array of float32 in C's order, with the header that numpy.save writes.
inline bool read_npy(const char* at, const char* end, Numbers& numbers, Shape& shape) {
    constexpr char MAGIC[] = "\x93NUMPY\x01";  // and a zero
    constexpr char FIELDS[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
    constexpr Py_ssize_t MAX_HEADER = 10'000;  // as in codecs/npy.py
    const auto take = [&at, &end](const char* text, size_t length) {
        if (static_cast<size_t>(end - at) < length || std::memcmp(at, text, length)) return false;
        at += length;
        return true;
    };
    if (!take(MAGIC, sizeof MAGIC) || end - at < 2) return false;
    const Py_ssize_t header = static_cast<unsigned char>(at[0]) | static_cast<unsigned char>(at[1]) << 8;
    at += 2;
    if (header > MAX_HEADER || end - at < header) return false;
    const char* const values = at + header;
    const Py_ssize_t most = (end - values) / FLOAT;
    const char* const body_end = end;
    end = values;
    if (!take(FIELDS, sizeof FIELDS - 1)) return false;

    Py_ssize_t lengths[MAX_DIMENSIONS], product = 1;
    int depth = 0;
    for (;;) {
        Py_ssize_t length = 0;
        if (depth == MAX_DIMENSIONS || at == end || *at < '1' || *at > '9') return false;
        for (; at < end && is_digit(*at) && length <= most; ++at) length = length * 10 + (*at - '0');
        if (length > most / product) return false;
        product *= length;
        lengths[depth++] = length;
        if (take(", ", 2)) continue;
        if (depth == 1 && !take(",", 1)) return false;
        break;
    }
    if (!take("), }", 4)) return false;
    while (at < end && *at == ' ') ++at;
    if (!take("\n", 1) || at != end) return false;

    if (body_end - values != product * FLOAT || product > numbers.end - numbers.at) return false;
    if (shape.depth && shape.depth != depth) return false;
    shape.depth = depth;
    for (int level = 1; level < depth; ++level) {
        if (!shape.lengths[level]) shape.lengths[level] = lengths[level];
        if (shape.lengths[level] != lengths[level]) return false;
    }
    shape.lengths[0] = lengths[0];
    std::memcpy(numbers.at, values, static_cast<size_t>(product) * sizeof(float));
    numbers.at += product;
    return true;
}

using Read = bool (*)(const char*, const char*, Numbers&, Shape&);

}  // namespace core
