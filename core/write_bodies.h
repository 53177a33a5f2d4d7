// Write bodies of numbers: nested lists (JSON), or lines (CSV).
#pragma once

#include <Python.h>

#include <cstring>

#include "read_bodies.h"
#include "write_numbers.h"

namespace core {

// A text that grows.
class Text {
  public:
    Text() = default;
    Text(const Text&) = delete;
    Text& operator=(const Text&) = delete;
    ~Text() { PyMem_Free(start); }

    // Make room for `more` characters at `at`; false, with an exception, if there is no memory.
    bool reserve(size_t more) {
        const size_t length = static_cast<size_t>(at - start);
        if (static_cast<size_t>(end - at) >= more) return true;
        const size_t size = (length + more) * 2;
        char* const moved = static_cast<char*>(PyMem_Realloc(start, size));
        if (!moved) return PyErr_NoMemory(), false;
        start = moved;
        at = moved + length;
        end = moved + size;
        return true;
    }

    PyObject* bytes() const { return PyBytes_FromStringAndSize(start, at - start); }
    PyObject* byte_array() const { return PyByteArray_FromStringAndSize(start, at - start); }
    char* beginning() const { return start; }
    void clear() { at = start; }
    void put(char c) { *at++ = c; }
    void fill(char c, int count) {
        while (count--) *at++ = c;
    }
    template <size_t N>
    void put(const char (&text)[N]) {
        std::memcpy(at, text, N - 1);
        at += N - 1;
    }

    char* at = nullptr;

  private:
    char* start = nullptr;
    char* end = nullptr;
};

// Write an array of `depth` dimensions as nested lists; null for what is not finite.
inline bool write_lists(Text& text, const float* numbers, const Py_ssize_t* lengths, int depth) {
    const Py_ssize_t last = lengths[depth - 1];
    Py_ssize_t lists = 1;
    for (int level = 0; level < depth - 1; ++level) lists *= lengths[level];
    const size_t room = static_cast<size_t>(last) * (MAX_WRITTEN + 2) + 2 * MAX_DIMENSIONS + 2;
    int open = depth;  // lists that begin before the next number
    for (Py_ssize_t list = 0; list < lists; ++list) {
        if (!text.reserve(room)) return false;
        if (list) {
            open = 1;
            Py_ssize_t index = list;
            for (int level = depth - 2; level > 0 && index % lengths[level] == 0; --level) {
                index /= lengths[level];
                ++open;
            }
            text.fill(']', open);
            text.put(", ");
        }
        text.fill('[', open);
        for (Py_ssize_t i = 0; i < last; ++i) {
            if (i) text.put(", ");
            const float number = *numbers++;
            if (std::isfinite(number))
                text.at = write_number<true>(text.at, number);
            else
                text.put("null");
        }
    }
    if (!text.reserve(MAX_DIMENSIONS)) return false;
    text.fill(']', depth);
    return true;
}

// Write a line for each row, with all its numbers.
inline bool write_lines(Text& text, const float* numbers, const Py_ssize_t* lengths, int depth) {
    Py_ssize_t columns = 1;
    for (int level = 1; level < depth; ++level) columns *= lengths[level];
    for (Py_ssize_t row = 0; row < lengths[0]; ++row) {
        if (!text.reserve(static_cast<size_t>(columns) * (MAX_WRITTEN + 1) + 2)) return false;
        for (Py_ssize_t i = 0; i < columns; ++i) {
            if (i) text.put(',');
            const float number = *numbers++;
            if (std::isfinite(number))
                text.at = write_number<false>(text.at, number);
            else if (std::isnan(number))
                text.put("nan");
            else if (number < 0)
                text.put("-inf");
            else
                text.put("inf");
        }
        text.put("\r\n");
    }
    return true;
}

using Write = bool (*)(Text&, const float*, const Py_ssize_t*, int);

}  // namespace core
