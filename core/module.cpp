// mms_handler._core: numbers from text and to text, for the codecs; and whole batches of requests.
//
// Every function returns exactly what Python makes of the same, or None: then the caller goes on in
// Python.  The stable ABI of Python 3.8 is all that is used, so one build serves every version.
#include <Python.h>

#include "frames.h"
#include "read_bodies.h"
#include "write_bodies.h"

namespace core {
namespace {

// Other functions, or other arguments of one, make another number.
constexpr int INTERFACE = 2;

constexpr uint16_t OK = 200;

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

// Memory for the numbers of one call, kept for the next one: memory that is new to the process takes
// the kernel time.  The interpreter's lock is held while it is used.
class Scratch {
  public:
    // Room for `count` numbers; nullptr, with an exception, if there is no memory.
    float* of(Py_ssize_t count) {
        if (count <= room) return start;
        release();
        start = static_cast<float*>(PyMem_Malloc(static_cast<size_t>(count) * sizeof(float)));
        if (!start) return PyErr_NoMemory(), nullptr;
        room = count;
        return start;
    }
    void done() {
        if (room > KEPT) release();
    }

  private:
    static constexpr Py_ssize_t KEPT = 1 << 22;

    void release() {
        PyMem_Free(start);
        start = nullptr;
        room = 0;
    }
    float* start = nullptr;
    Py_ssize_t room = 0;
};

Scratch scratch;

// The numbers of several bodies: (bytearray of float32, [length of each body], lengths inside).
class Reading {
  public:
    // `bytes` of bodies follow, `count` of them; false, perhaps with an exception, if not all of
    // their numbers can be taken.  A number takes two characters at least, with what follows it.
    bool begin(size_t bytes, size_t count, Py_ssize_t limit) {
        const Py_ssize_t most = limit / FLOAT;
        Py_ssize_t room = static_cast<Py_ssize_t>(bytes / 2 + count);
        if (room > most) room = most;
        if (room < 1 || !lengths) return false;
        first = scratch.of(room);
        numbers = {first, first + room};
        return first;
    }

    bool add(Read read, const char* start, const char* end) {
        shape.lengths[0] = 0;
        if (!read(start, end, numbers, shape)) return false;
        Object length(PyLong_FromSsize_t(shape.lengths[0]));
        return length && !PyList_Append(lengths, length.get());
    }

    // The result, with something else before it, if it is not null.
    PyObject* end(PyObject* before = nullptr) {
        Object array(PyByteArray_FromStringAndSize(reinterpret_cast<char*>(first),
                                                   (numbers.at - first) * FLOAT));
        if (!array) return nullptr;
        Object inner(PyTuple_New(shape.depth - 1));
        if (!inner) return nullptr;
        for (int level = 1; level < shape.depth; ++level) {
            PyObject* const length = PyLong_FromSsize_t(shape.lengths[level]);
            if (!length || PyTuple_SetItem(inner.get(), level - 1, length)) return nullptr;
        }
        if (before) return PyTuple_Pack(4, before, array.get(), lengths, inner.get());
        return PyTuple_Pack(3, array.get(), lengths, inner.get());
    }

    Reading() : lengths(PyList_New(0)) {}
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;
    ~Reading() {
        scratch.done();
        Py_XDECREF(lengths);
    }

  private:
    PyObject* lengths;
    float* first = nullptr;
    Numbers numbers = {nullptr, nullptr};
    Shape shape;
};

// What a function returns that was not sure, or failed.
PyObject* none_or_error() { return PyErr_Occurred() ? nullptr : none(); }

// (bodies, limit in bytes) -> (bytearray of float32, [length of each body], lengths inside)
template <Read READ>
PyObject* read(PyObject*, PyObject* arguments) {
    PyObject* sequence;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(arguments, "On", &sequence, &limit)) return nullptr;
    Object bodies(PySequence_Tuple(sequence));
    if (!bodies) return nullptr;
    Reading reading;
    const Py_ssize_t count = PyTuple_Size(bodies.get());
    const char *start, *end;
    size_t bytes = 0;
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (!bytes_of(PyTuple_GetItem(bodies.get(), i), start, end)) return nullptr;
        bytes += static_cast<size_t>(end - start);
    }
    if (!count || !reading.begin(bytes, static_cast<size_t>(count), limit)) return none_or_error();
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (!bytes_of(PyTuple_GetItem(bodies.get(), i), start, end)) return nullptr;
        if (!reading.add(READ, start, end)) return none_or_error();
    }
    return reading.end();
}

// Write the ids of a frame's requests, as many as there is room for, with a zero byte behind them.
void write_ids(Requests requests, char* at, char* const end) {
    Request request;
    while (requests.next(request)) {
        for (const char* id = request.id; id < request.id_end && at < end - 1; ++id)
            *at++ = *id < 0 ? '?' : *id;
        if (requests.left && at < end - 1) *at++ = '\n';
    }
    *at = '\0';
}

constexpr Read READERS[] = {read_lists, read_lines, read_npy};

// (frame, {what a head asks for: (number of a reader, ...)}, limit in bytes, buffer for ids or None)
// -> (what the dict has, bytearray of float32, [length of each body], lengths inside)
PyObject* read_requests(PyObject*, PyObject* arguments) {
    PyObject *frame, *forms, *ids;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(arguments, "OO!nO", &frame, &PyDict_Type, &forms, &limit, &ids))
        return nullptr;
    Reading reading;
    const char *start, *end;
    if (!bytes_of(frame, start, end)) return nullptr;
    Requests requests(start, end);
    const Requests all = requests;
    Request first, request;
    if (!requests.next(first)) return none();
    const size_t asked = static_cast<size_t>(first.asked_end - first.asked);
    Object key(PyBytes_FromStringAndSize(first.asked, first.asked_end - first.asked));
    if (!key) return nullptr;
    PyObject* const form = PyDict_GetItem(forms, key.get());
    if (!form || form == Py_None) return none();
    const long reader = PyLong_AsLong(PyTuple_GetItem(form, 0));
    if (reader < 0 || reader >= static_cast<long>(sizeof READERS / sizeof *READERS))
        return none_or_error();

    if (ids != Py_None) {
        void* buffer;
        Py_ssize_t room;
        if (PyObject_AsWriteBuffer(ids, &buffer, &room)) return nullptr;
        if (room) write_ids(all, static_cast<char*>(buffer), static_cast<char*>(buffer) + room);
    }
    if (!reading.begin(static_cast<size_t>(end - start), all.count, limit)) return none_or_error();
    requests = all;
    while (requests.next(request)) {
        if (static_cast<size_t>(request.asked_end - request.asked) != asked) return none();
        if (std::memcmp(request.asked, first.asked, asked)) return none();
        if (!reading.add(READERS[reader], request.body, request.body_end)) return none_or_error();
    }
    return requests.left ? none() : reading.end(form);
}

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
    if (!read_shape(shape, values, lengths, depth)) return none_or_error();

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

constexpr Write WRITERS[] = {write_lists, write_lines};

// (numbers, their shape, [rows of each reply], number of a writer, head of each reply, most bytes
// of a body, bytes before the records) -> bytearray, with zeros before the records
PyObject* write_replies(PyObject*, PyObject* arguments) {
    PyObject *array, *shape, *sequence, *head;
    int writer;
    Py_ssize_t most, before;
    if (!PyArg_ParseTuple(arguments, "OO!OiSnn", &array, &PyTuple_Type, &shape, &sequence, &writer,
                          &head, &most, &before))
        return nullptr;
    Object counts(PySequence_Tuple(sequence));
    if (!counts) return nullptr;
    const char *start, *end, *head_start, *head_end;
    if (!bytes_of(array, start, end) || !bytes_of(head, head_start, head_end)) return nullptr;
    const float* numbers = reinterpret_cast<const float*>(start);
    Py_ssize_t lengths[MAX_DIMENSIONS];
    int depth;
    if (!read_shape(shape, (end - start) / FLOAT, lengths, depth)) return none_or_error();
    const Py_ssize_t count = PyTuple_Size(counts.get());
    if (count > UINT16_MAX || before < 0 || before > 64) return none();
    if (writer < 0 || writer >= static_cast<int>(sizeof WRITERS / sizeof *WRITERS)) return none();

    const Py_ssize_t row_values = (end - start) / FLOAT / lengths[0];
    const size_t head_bytes = static_cast<size_t>(head_end - head_start);
    const size_t replies = static_cast<size_t>(count);
    const size_t records = static_cast<size_t>(before), heads = records + replies * RECORD;
    size_t body = heads + replies * head_bytes;
    Py_ssize_t left = lengths[0];
    Text text;
    if (!text.reserve(body + 1)) return nullptr;
    std::memset(text.at, 0, records);
    text.at += body;
    for (size_t i = 0; i < replies; ++i) {
        lengths[0] = PyLong_AsSsize_t(PyTuple_GetItem(counts.get(), static_cast<Py_ssize_t>(i)));
        if (lengths[0] < 1 || lengths[0] > left) return none_or_error();
        left -= lengths[0];
        if (!WRITERS[writer](text, numbers, lengths, depth)) return nullptr;
        numbers += lengths[0] * row_values;
        const size_t written = static_cast<size_t>(text.at - text.beginning()) - body;
        if (written > static_cast<size_t>(most < 0 ? 0 : most) || written > UINT32_MAX) return none();
        put_reply(text.beginning() + records + i * RECORD, static_cast<uint16_t>(i), OK,
                  static_cast<uint32_t>(head_bytes), static_cast<uint32_t>(written));
        std::memcpy(text.beginning() + heads + i * head_bytes, head_start, head_bytes);
        body += written;
    }
    return left ? none() : text.byte_array();
}

// MXNet's C functions, which Python has found: mxnet is not linked.
struct Mxnet {
    int (*copy_from)(void* array, const void* numbers, size_t count);
    int (*forward)(void* executor, int is_training);
    int (*copy_to)(void* array, void* numbers, size_t count);
};

Mxnet mxnet = {nullptr, nullptr, nullptr};

// (addresses of MXNDArraySyncCopyFromCPU, MXExecutorForward and MXNDArraySyncCopyToCPU)
PyObject* use_mxnet(PyObject*, PyObject* arguments) {
    unsigned long long from, forward, to;
    if (!PyArg_ParseTuple(arguments, "KKK", &from, &forward, &to)) return nullptr;
    mxnet.copy_from = reinterpret_cast<decltype(mxnet.copy_from)>(from);
    mxnet.forward = reinterpret_cast<decltype(mxnet.forward)>(forward);
    mxnet.copy_to = reinterpret_cast<decltype(mxnet.copy_to)>(to);
    return none();
}

// (handles of an executor, its input and its output; values of both; numbers) -> bytearray
PyObject* forward(PyObject*, PyObject* arguments) {
    unsigned long long executor, input, output;
    Py_ssize_t values_in, values_out;
    PyObject* numbers;
    if (!PyArg_ParseTuple(arguments, "KKKnnO", &executor, &input, &output, &values_in, &values_out,
                          &numbers))
        return nullptr;
    const char *start, *end;
    if (!bytes_of(numbers, start, end)) return nullptr;
    if (values_in < 1 || (end - start) / FLOAT != values_in || !mxnet.forward) return none();
    if (values_out < 1 || values_out > PY_SSIZE_T_MAX / FLOAT) return none();
    Object array(PyByteArray_FromStringAndSize(nullptr, values_out * FLOAT));
    if (!array) return nullptr;
    char* const result = PyByteArray_AsString(array.get());
    int failed;
    Py_BEGIN_ALLOW_THREADS  // both buffers are the caller's and ours alone
    failed = mxnet.copy_from(reinterpret_cast<void*>(input), start, static_cast<size_t>(values_in)) ||
             mxnet.forward(reinterpret_cast<void*>(executor), 0) ||
             mxnet.copy_to(reinterpret_cast<void*>(output), result, static_cast<size_t>(values_out));
    Py_END_ALLOW_THREADS
    return failed ? none() : array.release();
}

PyMethodDef FUNCTIONS[] = {
    {"read_json", read<read_lists>, METH_VARARGS, nullptr},
    {"read_csv", read<read_lines>, METH_VARARGS, nullptr},
    {"write_json", write<write_lists>, METH_VARARGS, nullptr},
    {"write_csv", write<write_lines>, METH_VARARGS, nullptr},
    {"read_requests", read_requests, METH_VARARGS, nullptr},
    {"write_replies", write_replies, METH_VARARGS, nullptr},
    {"use_mxnet", use_mxnet, METH_VARARGS, nullptr},
    {"forward", forward, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_core", nullptr, -1, FUNCTIONS, nullptr, nullptr, nullptr, nullptr,
};

}  // namespace
}  // namespace core

// The headers of Python 3.8 do not make it visible.
extern "C" __attribute__((visibility("default"))) PyObject* PyInit__core();

PyMODINIT_FUNC PyInit__core() {
    PyObject* const module = PyModule_Create(&core::MODULE);
    if (module && PyModule_AddIntConstant(module, "INTERFACE", core::INTERFACE)) return nullptr;
    return module;
}
