package mms_handler;

import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
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
        requests(text, Requests.counted());
        synchronized (Workers.class) {
            workers(text, Workers.look());
        }
        if (Plugin.GATE != null) {
            text.family("in_flight", "gauge", "Requests not answered yet, but for this one.");
            text.sample("in_flight", Math.max(0, Flight.IN_FLIGHT.get() - 1));
        }
        send(response, 200, "text/plain; version=0.0.4; charset=utf-8", text.toString());
    }

    private static void requests(Text text, Map<String, Requests> counted) {
        text.family("requests_total", "counter", "Answered invocations.");
        counted.forEach((model, requests) -> statuses(text, model, requests));
        text.family("request_seconds", "histogram", "From a request's last byte to its answer.");
        counted.forEach((model, requests) -> histogram(text, model, requests));
    }

    private static void statuses(Text text, String model, Requests requests) {
        requests.byStatus.forEach(
                (status, n) -> text.sample("requests_total", n, "model", model, "status", status));
    }

    private static void histogram(Text text, String model, Requests requests) {
        long below = 0;
        for (int i = 0; i < requests.buckets.length; i++) {
            String bound = i < Requests.BOUNDS.length ? "" + Requests.BOUNDS[i] : "+Inf";
            below += requests.buckets[i].sum();
            text.sample("request_seconds_bucket", below, "model", model, "le", bound);
        }
        text.sample("request_seconds_sum", requests.millis.sum() / 1000.0, "model", model);
        text.sample("request_seconds_count", below, "model", model);
    }

    private static void workers(Text text, Collection<Workers> all) {
        text.family("workers", "gauge", "Processes with a loaded model, and how many are wanted.");
        for (Workers one : all) {
            text.sample("workers", one.alive, "model", name(one), "state", "alive");
            text.sample("workers", one.wanted, "model", name(one), "state", "wanted");
        }
        text.family("worker_restarts_total", "counter", "Worker processes begun again.");
        all.forEach(w -> text.sample("worker_restarts_total", w.restarts, "model", name(w)));
        text.family("worker_memory_bytes", "gauge", "Resident memory of the workers.");
        all.forEach(w -> text.sample("worker_memory_bytes", memory(w), "model", name(w)));
        if (Queue.known()) {
            text.family("queue_length", "gauge", "Requests that wait for a worker.");
            all.forEach(w -> text.sample("queue_length", Queue.length(w.model), "model", name(w)));
        }
    }

    private static String name(Workers workers) {
        return workers.model.getModelName();
    }

    private static long memory(Workers workers) {
        return workers.threads.stream().mapToLong(Metrics::residentBytes).sum();
    }

    /** MMS's own figure, WorkerThread.getMemory, is up to a minute old. */
    private static long residentBytes(WorkerThread worker) {
        try {
            Path status = Paths.get("/proc/" + worker.getPid() + "/status");
            for (String line : Files.readAllLines(status)) {
                if (line.startsWith("VmRSS:")) {
                    return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
                }
            }
        } catch (IOException e) {
            Plugin.LOG.debug("process {} is gone", worker.getPid());
        }
        return 0;
    }

    /** The lines of the format. */
    private static final class Text {
        private final StringBuilder lines = new StringBuilder();

        void family(String name, String type, String help) {
            lines.append(String.format("# HELP mms_handler_%s %s\n", name, help));
            lines.append(String.format("# TYPE mms_handler_%s %s\n", name, type));
        }

        /** {@code labels}: a name, its value, the next name, its value. */
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
