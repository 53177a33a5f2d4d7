package mms_handler;

import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Collection;
import java.util.Map;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/** /metrics, in Prometheus's text format 0.0.4. */
@Endpoint(urlPattern = "metrics", endpointType = EndpointTypes.INFERENCE)
public final class Metrics extends GetEndpoint {
    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        Text text = new Text();
        requests(text, RequestCounts.byModel());
        synchronized (Workers.class) {
            workers(text, Workers.update());
        }
        if (Plugin.GATE != null) {
            text.family("in_flight", "gauge", "Requests in flight, without this one.");
            text.sample("in_flight", Math.max(0, Connection.IN_FLIGHT.get() - 1));
            text.family("connections", "gauge", "Open connections of clients.");
            text.sample("connections", Connection.OPEN.size());
            text.family("limit_hits_total", "counter", "Connections and requests cut by a limit.");
            for (Limits limit : Limits.values()) {
                text.sample("limit_hits_total", limit.count.sum(), "limit", limit.label);
            }
        }
        send(response, 200, "text/plain; version=0.0.4; charset=utf-8", text.toString());
    }

    private static void requests(Text text, Map<String, RequestCounts> byModel) {
        text.family("requests_total", "counter", "Answered invocations.");
        byModel.forEach((name, counts) -> statuses(text, Routes.labels(name), counts));
        text.family("request_seconds", "histogram", "From a request's last byte to its answer.");
        byModel.forEach((name, counts) -> histogram(text, Routes.labels(name), counts));
    }

    private static void statuses(Text text, String[] model, RequestCounts counts) {
        counts.byStatus.forEach(
                (status, n) -> text.sample("requests_total", n, model, "status", status));
    }

    private static void histogram(Text text, String[] model, RequestCounts counts) {
        long total = 0;
        for (int i = 0; i < counts.buckets.length; i++) {
            String bound = i < RequestCounts.BOUNDS.length ? "" + RequestCounts.BOUNDS[i] : "+Inf";
            total += counts.buckets[i].sum();
            text.sample("request_seconds_bucket", total, model, "le", bound);
        }
        text.sample("request_seconds_sum", counts.millis.sum() / 1000.0, model);
        text.sample("request_seconds_count", total, model);
    }

    private static void workers(Text text, Collection<Workers> all) {
        text.family("workers", "gauge", "Processes with a loaded model, and how many are wanted.");
        for (Workers workers : all) {
            text.sample("workers", workers.alive, model(workers), "state", "alive");
            text.sample("workers", workers.expected, model(workers), "state", "wanted");
        }
        text.family("worker_restarts_total", "counter", "Worker processes started again.");
        all.forEach(w -> text.sample("worker_restarts_total", w.restarts, model(w)));
        text.family("worker_recycles_total", "counter", "Worker processes replaced on purpose.");
        all.forEach(w -> text.sample("worker_recycles_total", w.recycling.recycled, model(w)));
        text.family("worker_memory_bytes", "gauge", "Resident memory of the workers.");
        all.forEach(w -> text.sample("worker_memory_bytes", memory(w), model(w)));
        text.family("queue_length", "gauge", "Requests that wait for a worker.");
        all.forEach(w -> text.sample("queue_length", w.waiting(), model(w)));
    }

    private static String[] model(Workers workers) {
        return Routes.labels(workers.model.getModelName());
    }

    private static long memory(Workers workers) {
        return workers.threads.stream().mapToLong(WorkerThread::getMemory).sum();
    }

    /** All memory of a worker's process. */
    static long residentBytes(WorkerThread worker) {
        return bytes(worker, "status", "VmRSS:");
    }

    /**
     * The memory of a worker that its end gives back: what it was forked with, and shares with
     * others, is none of it.
     */
    static long ownBytes(WorkerThread worker) {
        long bytes = bytes(worker, "smaps_rollup", "Private_Dirty:");
        return bytes > 0 ? bytes : residentBytes(worker);
    }

    /**
     * A worker's memory, with its part of what it shares with others.  What MMS measures itself,
     * for its descriptions of models, has all of that, and is up to a minute old.
     */
    static long proportionalBytes(WorkerThread worker) {
        long bytes = bytes(worker, "smaps_rollup", "Pss:");
        return bytes > 0 ? bytes : residentBytes(worker);
    }

    private static long bytes(WorkerThread worker, String file, String name) {
        try {
            Path path = Paths.get("/proc/" + worker.getPid() + "/" + file);
            for (String line : Files.readAllLines(path)) {
                if (line.startsWith(name)) {
                    return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
                }
            }
        } catch (IOException e) {
            Plugin.LOG.debug("no {} of process {}", file, worker.getPid());
        }
        return 0;
    }

    /** Lines in Prometheus's format. */
    private static final class Text {
        private final StringBuilder lines = new StringBuilder();

        void family(String name, String type, String help) {
            lines.append(String.format("# HELP mms_handler_%s %s\n", name, help));
            lines.append(String.format("# TYPE mms_handler_%s %s\n", name, type));
        }

        /** @param more names and values of labels in turn, after those of the model */
        void sample(String name, Object value, String[] model, String... more) {
            String[] labels = Arrays.copyOf(model, model.length + more.length);
            System.arraycopy(more, 0, labels, model.length, more.length);
            sample(name, value, labels);
        }

        /** @param labels names and values in turn */
        void sample(String name, Object value, String... labels) {
            lines.append("mms_handler_").append(name);
            for (int i = 0; i < labels.length; i += 2) {
                lines.append(i == 0 ? '{' : ',').append(labels[i]);
                lines.append("=\"").append(escaped(labels[i + 1])).append('"');
            }
            lines.append(labels.length == 0 ? " " : "} ").append(value).append('\n');
        }

        private static String escaped(String label) {
            return label.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n");
        }

        @Override
        public String toString() {
            return lines.toString();
        }
    }
}
