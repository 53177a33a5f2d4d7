package mms_handler;

import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.io.IOException;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/**
 * /metrics, in Prometheus's text format 0.0.4.  The page is made when it is asked for.
 *
 * <p>With name[]=FAMILY it has only this family, or these.
 */
@Endpoint(urlPattern = "metrics", endpointType = EndpointTypes.INFERENCE)
public final class Metrics extends GetEndpoint {
    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        List<String> asked = request.getParameter("name[]");
        Page page = new Page(asked == null || asked.isEmpty() ? null : asked);
        requests(page, new TreeMap<>(RequestCounts.byModel()));
        synchronized (Workers.class) {
            Collection<Workers> all = Workers.update();
            queues(page, all);
            workers(page, all);
            scripts(page, all);
        }
        Told.show(page);
        if (Plugin.GATE != null) {
            gate(page);
        }
        Jvm.show(page);
        send(response, 200, "text/plain; version=0.0.4; charset=utf-8", page.toString());
    }

    // --- requests ---

    private static void requests(Page page, Map<String, ModelCounts> byModel) {
        page.family("requests_total", "counter", "Answered invocations.");
        byModel.forEach(
                (name, counts) -> {
                    for (String status : counts.statuses()) {
                        long number = 0;
                        for (long each : counts.answers(status).counts()) {
                            number += each;
                        }
                        page.sample("requests_total", number, labels(name), "status", status);
                    }
                });
        page.family("request_seconds", "histogram", "From a request's last byte to its answer.");
        byModel.forEach(
                (name, counts) -> {
                    for (String status : counts.statuses()) {
                        Histogram times = counts.answers(status);
                        page.histogram("request_seconds", times, labels(name), "status", status);
                    }
                });
        byModel.remove(""); // what no model got
        histogram(page, byModel, c -> c.queue, "request_queue_seconds", "Waiting for a worker.");
        String part = " of the batch in which a request was; part of request_seconds.";
        histogram(page, byModel, c -> c.decode, "request_decode_seconds", "Decoding" + part);
        histogram(page, byModel, c -> c.predict, "request_predict_seconds", "Predicting" + part);
        histogram(page, byModel, c -> c.encode, "request_encode_seconds", "Encoding" + part);
        histogram(page, byModel, c -> c.batches, "batch_size", "Requests that a worker got together.");
        counter(
                page,
                byModel,
                c -> (double) c.requestBytes.sum(),
                "request_bytes_total",
                "Bodies of requests.");
        counter(
                page,
                byModel,
                c -> (double) c.responseBytes.sum(),
                "response_bytes_total",
                "Bodies of responses.");
        counter(
                page,
                byModel,
                c -> c.busyNs.sum() / 1e9,
                "worker_busy_seconds_total",
                "How long workers had a batch, added up.");
    }

    private static void histogram(
            Page page,
            Map<String, ModelCounts> byModel,
            Function<ModelCounts, Histogram> of,
            String family,
            String help) {
        page.family(family, "histogram", help);
        byModel.forEach((name, counts) -> page.histogram(family, of.apply(counts), labels(name)));
    }

    private static void counter(
            Page page,
            Map<String, ModelCounts> byModel,
            Function<ModelCounts, Double> of,
            String family,
            String help) {
        page.family(family, "counter", help);
        byModel.forEach((name, counts) -> page.sample(family, of.apply(counts), labels(name)));
    }

    // --- workers ---

    private static void queues(Page page, Collection<Workers> all) {
        page.family("queue_length", "gauge", "Requests that wait for a worker.");
        all.forEach(w -> page.sample("queue_length", w.waiting(), labels(w)));
        page.family("queue_capacity", "gauge", "How many requests may wait; more get 503.");
        all.forEach(w -> page.sample("queue_capacity", w.capacity(), labels(w)));
        page.family("requests_in_flight", "gauge", "Requests of a model, also those that wait.");
        all.forEach(w -> page.sample("requests_in_flight", Router.inFlight(name(w)), labels(w)));
    }

    private static void workers(Page page, Collection<Workers> all) {
        page.family("workers", "gauge", "Processes: with the model, without it yet, and wanted.");
        for (Workers workers : all) {
            page.sample("workers", workers.alive, labels(workers), "state", "alive");
            page.sample("workers", workers.loading(), labels(workers), "state", "loading");
            page.sample("workers", workers.expected, labels(workers), "state", "wanted");
        }
        page.family("worker_restarts_total", "counter", "Worker processes started again.");
        all.forEach(w -> page.sample("worker_restarts_total", w.restarts, labels(w)));
        page.family("worker_recycles_total", "counter", "Worker processes replaced on purpose.");
        all.forEach(w -> page.sample("worker_recycles_total", w.recycling.recycled, labels(w)));
        memory(
                page,
                all,
                worker -> Processes.residentBytes(worker.getPid()),
                "worker_resident_memory_bytes",
                "A worker's memory, with all that it shares with others.");
        memory(
                page,
                all,
                WorkerThread::getMemory,
                "worker_proportional_memory_bytes",
                "A worker's memory, with its part of what it shares; at most a second old.");
    }

    private static void memory(
            Page page,
            Collection<Workers> all,
            Function<WorkerThread, Long> of,
            String family,
            String help) {
        page.family(family, "gauge", help);
        if (page.has(family)) {
            for (Workers workers : all) {
                for (int i = 0; i < workers.threads.size(); i++) {
                    WorkerThread worker = workers.threads.get(i);
                    String place = String.valueOf(i);
                    if (Workers.isAlive(worker)) {
                        page.sample(family, of.apply(worker), labels(workers), "worker", place);
                    }
                }
            }
        }
    }

    private static String name(Workers workers) {
        return workers.model.getModelName();
    }

    private static String[] labels(Workers workers) {
        return labels(name(workers));
    }

    private static String[] labels(String mmsName) {
        return Routes.labels(mmsName);
    }

    // --- scripts ---

    private static void scripts(Page page, Collection<Workers> all) {
        for (ScriptMetrics.Kind kind : ScriptMetrics.Kind.values()) {
            page.family(kind.family, kind.isCounter() ? "counter" : "summary", kind.help);
            for (Workers workers : all) {
                ScriptMetrics metrics = ScriptMetrics.of(workers.model);
                if (metrics != null) {
                    metrics.of(kind).forEach((key, sum) -> script(page, labels(workers), key, sum));
                }
            }
        }
        String leftOut = "script_values_left_out_total";
        page.family(leftOut, "counter", "What scripts add, and cannot be counted.");
        for (Workers workers : all) {
            ScriptMetrics metrics = ScriptMetrics.of(workers.model);
            if (metrics != null) {
                page.sample(leftOut, metrics.leftOut.sum(), labels(workers));
            }
        }
    }

    private static void script(
            Page page, String[] model, ScriptMetrics.Key key, ScriptMetrics.Sum sum) {
        String family = key.kind.family;
        String[] unit = key.unit.isEmpty() ? new String[0] : new String[] {"unit", key.unit};
        String[] more = {"name", key.name};
        String[] labels = Page.with(more, unit);
        if (key.kind.isCounter()) {
            boolean errors = key.kind == ScriptMetrics.Kind.ERRORS;
            page.sample(family, errors ? sum.count : sum.total, model, labels);
        } else {
            page.sample(family + "_sum", sum.total, model, labels);
            page.sample(family + "_count", sum.count, model, labels);
        }
    }

    // --- the gate ---

    private static void gate(Page page) {
        page.family("in_flight", "gauge", "Requests in flight of any kind, without this one.");
        page.sample("in_flight", Math.max(0, Connection.IN_FLIGHT.get() - 1));
        page.family("connections", "gauge", "Open connections of clients.");
        page.sample("connections", Connection.OPEN.size());
        page.family("limit_hits_total", "counter", "Connections and requests cut by a limit.");
        for (Limits limit : Limits.values()) {
            page.sample("limit_hits_total", limit.count.sum(), "limit", limit.label);
        }
        page.family("captured_total", "counter", "Predictions captured, and dropped instead.");
        page.sample("captured_total", Capture.WRITTEN.sum(), "result", "written");
        page.sample("captured_total", Capture.DROPPED.sum(), "result", "dropped");
    }
}
