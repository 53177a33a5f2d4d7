package mms_handler;

import com.amazonaws.ml.mms.archive.Manifest;
import com.amazonaws.ml.mms.archive.ModelArchive;
import com.amazonaws.ml.mms.util.messages.BaseModelRequest;
import com.amazonaws.ml.mms.util.messages.ModelInferenceRequest;
import com.amazonaws.ml.mms.util.messages.ModelWorkerResponse;
import com.amazonaws.ml.mms.util.messages.Predictions;
import com.amazonaws.ml.mms.util.messages.RequestInput;
import com.amazonaws.ml.mms.util.messages.WorkerCommands;
import com.amazonaws.ml.mms.wlm.BatchAggregator;
import com.amazonaws.ml.mms.wlm.Job;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerState;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.io.File;
import java.lang.reflect.Field;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.BlockingDeque;

/**
 * A model of MMS with requests and workers.  Its queue is the plug-in's; the model and the collector
 * of batches are MMS's own.  MMS's WorkerThread is written again here, without its process.
 */
class SimulatedModel {
    private static final int QUEUE_SIZE = 6;

    /** Reused by all orders that succeed: threads are slow to start. */
    static Scheduler scheduler;

    private static SimulatedModel current;

    final Model model;
    final RequestQueue queue;
    final BlockingDeque<Job> mmsQueue;
    final Collection<?> idle;
    final Set<?> retired;
    final List<Request> requests = new ArrayList<>();
    final List<Worker> workers = new ArrayList<>();

    /** Workers that MMS will start again. */
    final List<Worker> ended = new ArrayList<>();

    boolean unregistered;

    /** Whether a worker's requests are answered because it has died. */
    private boolean failing;

    SimulatedModel(long seed, StringBuilder trace, int workers) {
        if (scheduler == null) {
            scheduler = new Scheduler(workers + 1, SimulatedModel::isWaiting);
        }
        scheduler.random = new SplittableRandom(seed);
        scheduler.trace = trace;
        model = model("model");
        model.setMaxBatchDelay(0);
        set(model, Model.class, "lock", scheduler.new Lock());
        mmsQueue = MmsInternals.queue(model);
        RequestQueue.adopt(model);
        queue = (RequestQueue) MmsInternals.queue(model);
        idle = (Collection<?>) field(queue, RequestQueue.class, "idle");
        retired = (Set<?>) field(queue, RequestQueue.class, "retired");
        current = this;
    }

    /** A model of MMS without files and workers. */
    static Model model(String name) {
        Manifest manifest = new Manifest();
        Manifest.Model described = new Manifest.Model();
        described.setModelName(name);
        manifest.setModel(described);
        ModelArchive archive = new ModelArchive(manifest, "url", new File("/nonexistent"), false);
        return new Model(archive, QUEUE_SIZE, "false");
    }

    /** Whether a worker's thread waits for a turn that nobody has given to it yet. */
    static boolean isWaiting(Thread thread) {
        synchronized (current.idle) {
            return current.retired.contains(thread)
                    || current.idle.stream().anyMatch(turn -> threadOf(turn) == thread);
        }
    }

    private static Thread threadOf(Object turn) {
        return (Thread) field(turn, turn.getClass(), "worker");
    }

    static void expect(boolean condition, String words) {
        if (!condition) {
            throw new AssertionError(words);
        }
    }

    /** Clients may give the same id to several requests. */
    private static String id(int number) {
        return "request-" + number / 2;
    }

    /** A request; MMS sends its answers to a client. */
    final class Request extends Job {
        final int number;
        final Deque<String> answers = new ArrayDeque<>();

        Request(int number) {
            super(null, "model", WorkerCommands.PREDICT, new RequestInput(id(number)));
            this.number = number;
        }

        void answer(String words) {
            scheduler.note(words + " for " + this);
            answers.add(words);
        }

        @Override
        public RequestInput getPayload() {
            scheduler.pause("taken", null);
            return super.getPayload();
        }

        @Override
        public void setScheduled() {
            scheduler.pause("scheduled", null);
        }

        @Override
        public void response(
                byte[] body,
                CharSequence contentType,
                int status,
                String phrase,
                Map<String, String> headers) {
            answer("answer");
            scheduler.pause("answered", null);
        }

        @Override
        public void sendError(HttpResponseStatus status, String error) {
            boolean full = error.equals("The queue is full.");
            expect(full || failing || unregistered, this + " is refused: " + status + " " + error);
            answer(error);
        }

        @Override
        public String toString() {
            return "request " + number;
        }
    }

    /** WorkerThread.run and runWorker. */
    final class Worker implements Runnable {
        final int number = workers.size();
        final BatchAggregator aggregator = new BatchAggregator(model);
        WorkerState state;
        boolean running = true;

        /** WorkerThread.currentThread. */
        Thread thread;

        BaseModelRequest request;
        ModelInferenceRequest sent;
        ModelWorkerResponse reply;
        boolean dying;
        int lives;
        int served;
        Thread recycled;

        Worker() {
            start();
        }

        void start() {
            lives++;
            dying = false;
            state = WorkerState.WORKER_STARTED;
            thread = scheduler.start(this);
        }

        void interrupt() {
            Thread interrupted = thread;
            thread = null;
            if (interrupted != null) {
                interrupted.interrupt();
            }
            scheduler.settle();
        }

        void shutDown() {
            running = false;
            state = WorkerState.WORKER_SCALED_DOWN;
            workers.remove(this);
            ended.remove(this);
            interrupt();
        }

        boolean hasRetired() {
            return retired.contains(thread);
        }

        boolean isLoaded() {
            return state == WorkerState.WORKER_MODEL_LOADED;
        }

        boolean isIdle() {
            return thread != null && isWaiting(thread);
        }

        @Override
        public void run() {
            try {
                state = WorkerState.WORKER_MODEL_LOADED; // connect() and the first request
                while (running) {
                    request = aggregator.getRequest("channel-" + number, state);
                    send();
                    aggregator.sendResponse(reply);
                    served++;
                    sent = null;
                    reply = null;
                    request = null;
                }
            } catch (InterruptedException e) {
                scheduler.note(this + " is interrupted");
            } finally {
                thread = null;
                fail();
                if (state != WorkerState.WORKER_SCALED_DOWN) {
                    state = WorkerState.WORKER_STOPPED;
                    ended.add(this);
                }
            }
        }

        private void send() throws InterruptedException {
            scheduler.pause("sent", null);
            if (Thread.interrupted()) {
                throw new InterruptedException(); // ChannelFuture.sync
            }
            sent = (ModelInferenceRequest) request;
            scheduler.pause("reply", () -> reply != null);
            if (Thread.interrupted()) {
                throw new InterruptedException(); // ArrayBlockingQueue.poll
            }
        }

        private void fail() {
            BaseModelRequest failed = request;
            request = null;
            sent = null;
            reply = null;
            if (failed != null) {
                expect(dying || state == WorkerState.WORKER_SCALED_DOWN, this + " has not died");
                HttpResponseStatus status = HttpResponseStatus.INTERNAL_SERVER_ERROR;
                failing = true;
                aggregator.sendError(failed, "Worker died.", status);
                failing = false;
            }
        }

        ModelWorkerResponse response() {
            ModelWorkerResponse response = new ModelWorkerResponse();
            response.setCode(200);
            List<Predictions> all = new ArrayList<>();
            for (RequestInput input : sent.getRequestBatch()) {
                Predictions prediction = new Predictions();
                prediction.setRequestId(input.getRequestId());
                prediction.setResp(new byte[0]);
                prediction.setStatusCode(200);
                all.add(prediction);
            }
            response.setPredictions(all);
            return response;
        }

        @Override
        public String toString() {
            return "worker " + number + "." + lives;
        }
    }

    private static Object field(Object object, Class<?> owner, String name) {
        try {
            Field field = owner.getDeclaredField(name);
            field.setAccessible(true);
            return field.get(object);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    private static void set(Object object, Class<?> owner, String name, Object value) {
        try {
            Field field = owner.getDeclaredField(name);
            field.setAccessible(true);
            field.set(object, value);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }
}
