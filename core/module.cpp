// mms_handler._core: numbers from text and to text, for the codecs.
//
// Every function returns exactly what the codecs' Python returns, or None: then the caller goes on
// in Python.  The stable ABI of Python 3.8 is all that is used, so one build serves every version.
#include <Python.h>

#include "read_numbers.h"
#include "write_numbers.h"

namespace core {
namespace {

constexpr int MAX_DIMENSIONS = 8;
constexpr Py_ssize_t FLOAT = sizeof(float);

// A reference that is given back.
class Object {
  public:
    explicit Object(PyObject* object) : object(object) {}
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    ~Object() { Py_XDECREF(object); }
    explicit operator bool() const { return object; }
    PyObject* get() const { return object; }
    PyObject* release() {
        PyObject* const released = object;
        object = nullptr;
        return released;
    }

  private:
    PyObject* object;
};

PyObject* none() {
    Py_INCREF(Py_None);
    return Py_None;
}

// The bytes of a bytes object, a memoryview, or another object with a buffer.  They stay where they
// are as long as the object lives and no Python code runs: so nothing that the collector tracks is
// made while they are used.
bool bytes_of(PyObject* object, const char*& start, const char*& end) {
    const void* buffer;
    Py_ssize_t length;
    if (PyObject_AsReadBuffer(object, &buffer, &length)) return false;
    start = static_cast<const char*>(buffer);
    end = start + length;
    return true;
}

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
bool read_lists(const char* at, const char* end, Numbers& numbers, Shape& shape) {
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
bool read_lines(const char* at, const char* end, Numbers& numbers, Shape& shape) {
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

using Read = bool (*)(const char*, const char*, Numbers&, Shape&);

// (bodies, limit in bytes) -> (bytearray of float32, [length of each body], lengths inside)
template <Read READ>
PyObject* read(PyObject*, PyObject* arguments) {
    PyObject* sequence;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(arguments, "On", &sequence, &limit)) return nullptr;
    Object bodies(PySequence_Tuple(sequence)), lengths(PyList_New(0));
    if (!bodies || !lengths) return nullptr;
    const Py_ssize_t count = PyTuple_Size(bodies.get());

    // A number takes two characters at least, with what follows it.
    Py_ssize_t room = 0;
    const Py_ssize_t most = limit / FLOAT;
    for (Py_ssize_t i = 0; i < count && room < most; ++i) {
        const char *start, *end;
        if (!bytes_of(PyTuple_GetItem(bodies.get(), i), start, end)) return nullptr;
        room += (end - start) / 2 + 1;
    }
    if (room > most) room = most;
    if (room < 1) return none();

    Object array(PyByteArray_FromStringAndSize(nullptr, room * FLOAT));
    if (!array) return nullptr;
    float* const first = reinterpret_cast<float*>(PyByteArray_AsString(array.get()));
    Numbers numbers = {first, first + room};
    Shape shape;
    for (Py_ssize_t i = 0; i < count; ++i) {
        const char *start, *end;
        if (!bytes_of(PyTuple_GetItem(bodies.get(), i), start, end)) return nullptr;
        shape.lengths[0] = 0;
        if (!READ(start, end, numbers, shape)) return none();
        Object length(PyLong_FromSsize_t(shape.lengths[0]));
        if (!length || PyList_Append(lengths.get(), length.get())) return nullptr;
    }
    const Py_ssize_t used = (numbers.at - first) * FLOAT;
    if (PyByteArray_Resize(array.get(), used)) return nullptr;
    Object inner(PyTuple_New(shape.depth - 1));
    if (!inner) return nullptr;
    for (int level = 1; level < shape.depth; ++level) {
        PyObject* const length = PyLong_FromSsize_t(shape.lengths[level]);
        if (!length || PyTuple_SetItem(inner.get(), level - 1, length)) return nullptr;
    }
    return PyTuple_Pack(3, array.get(), lengths.get(), inner.get());
}

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
bool write_lists(Text& text, const float* numbers, const Py_ssize_t* lengths, int depth) {
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
bool write_lines(Text& text, const float* numbers, const Py_ssize_t* lengths, int depth) {
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

// Read the shape of an array of `values`; false if it does not have that shape, or is too deep.
bool read_shape(PyObject* shape, Py_ssize_t values, Py_ssize_t* lengths, int& depth) {
    const Py_ssize_t count = PyTuple_Size(shape);
    if (count < 1 || count > MAX_DIMENSIONS) return false;
    depth = static_cast<int>(count);
    Py_ssize_t product = 1;
    for (int level = 0; level < depth; ++level) {
        lengths[level] = PyLong_AsSsize_t(PyTuple_GetItem(shape, level));
        if (lengths[level] < 1 || product > values / lengths[level]) return false;
        product *= lengths[level];
    }
    return product == values;
}

// (array of float32 in row-major order, its shape, [rows of each body]) -> [body]
template <Write WRITE>
PyObject* write(PyObject*, PyObject* arguments) {
    PyObject *array, *shape, *sequence;
    if (!PyArg_ParseTuple(arguments, "OO!O", &array, &PyTuple_Type, &shape, &sequence)) return nullptr;
    Object counts(PySequence_Tuple(sequence)), bodies(PyList_New(0));
    if (!counts || !bodies) return nullptr;
    const char *start, *end;
    if (!bytes_of(array, start, end)) return nullptr;
    const Py_ssize_t values = (end - start) / FLOAT;
    const float* numbers = reinterpret_cast<const float*>(start);
    Py_ssize_t lengths[MAX_DIMENSIONS];
    int depth;
    if (!read_shape(shape, values, lengths, depth)) return PyErr_Occurred() ? nullptr : none();

    const Py_ssize_t row_values = values / lengths[0];
    Py_ssize_t left = lengths[0];
    Text text;
    for (Py_ssize_t i = 0; i < PyTuple_Size(counts.get()); ++i) {
        lengths[0] = PyLong_AsSsize_t(PyTuple_GetItem(counts.get(), i));
        if (PyErr_Occurred()) return nullptr;
        if (lengths[0] < 1 || lengths[0] > left) return none();
        left -= lengths[0];
        text.clear();
        if (!WRITE(text, numbers, lengths, depth)) return nullptr;
        numbers += lengths[0] * row_values;
        Object body(text.bytes());
        if (!body || PyList_Append(bodies.get(), body.get())) return nullptr;
    }
    return left ? none() : bodies.release();
}

PyMethodDef FUNCTIONS[] = {
    {"read_json", read<read_lists>, METH_VARARGS, nullptr},
    {"read_csv", read<read_lines>, METH_VARARGS, nullptr},
    {"write_json", write<write_lists>, METH_VARARGS, nullptr},
    {"write_csv", write<write_lines>, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_core", nullptr, -1, FUNCTIONS, nullptr, nullptr, nullptr, nullptr,
};

}  // namespace
}  // namespace core

// The headers of Python 3.8 do not make it visible.
extern "C" __attribute__((visibility("default"))) PyObject* PyInit__core();

PyMODINIT_FUNC PyInit__core() { return PyModule_Create(&core::MODULE); }
