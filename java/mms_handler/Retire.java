package mms_handler;

import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkerState;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.io.IOException;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.BlockingDeque;
import java.util.concurrent.TimeUnit;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.ModelServerEndpoint;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/**
 * POST /retire?model=NAME&workers=N&timeout_s=S: let N workers finish what they do and take no more
 * requests.
 *
 * <p>MMS ends surplus workers at once, the youngest first (WorkLoadManager.modelChanged), and the
 * request of a busy one fails with "Worker died." or is queued again (WorkerThread.shutdown). After
 * this call the youngest are idle, or dead. Without a scaling that follows, they stay idle.
 */
@Endpoint(urlPattern = "retire", endpointType = EndpointTypes.MANAGEMENT)
public final class Retire extends ModelServerEndpoint {
    private static final long POLL_MS = 5;

    public Retire() {
        Plugin.start();
    }

    @Override
    public void doPost(Request request, Response response, Context context) throws IOException {
        Model model = ModelManager.getInstance().getModels().get(parameter(request, "model"));
        if (model == null) {
            GetEndpoint.send(response, 404, "text/plain", "no such model\n");
            return;
        }
        Workers.update(); // now it knows them, and can end those that MMS starts again later
        int workers = Integer.parseInt(parameter(request, "workers"));
        long timeoutS = Long.parseLong(parameter(request, "timeout_s"));
        BlockingDeque<?> queue = MmsInternals.queue(model);
        Lane lane = Plane.lane(model);
        if (lane != null) {
            retire(model, lane, workers, TimeUnit.SECONDS.toNanos(timeoutS));
        } else if (queue instanceof RequestQueue) {
            retire(model, (RequestQueue) queue, workers, TimeUnit.SECONDS.toNanos(timeoutS));
        }
        GetEndpoint.send(response, 200, "text/plain", "retired\n");
    }

    private static void retire(Model model, Staff staff, int workers, long limitNs) {
        long start = System.nanoTime();
        try {
            while (staff.retire(idleNeeded(model, workers))
                    && System.nanoTime() - start < limitNs) {
                Thread.sleep(POLL_MS);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        staff.retireNoMore();
        MmsInternals.sort(model, thread -> rank(staff.isRetired(thread), isAlive(thread)));
    }

    /** The highest is ended first: those that have retired, then those that died. */
    static int rank(boolean retired, boolean alive) {
        return retired ? 2 : alive ? 0 : 1;
    }

    /** How many must become idle: all that are not dead, if there are no more than N. */
    private static int idleNeeded(Model model, int workers) {
        List<WorkerThread> threads = ModelManager.getInstance().getWorkers(model.getModelName());
        threads.removeIf(Objects::isNull); // copied while other threads changed the list
        long dead = threads.stream().filter(thread -> !isAlive(thread)).count();
        return Math.min(workers, threads.size()) - (int) dead;
    }

    private static boolean isAlive(WorkerThread thread) {
        return thread.getState() == WorkerState.WORKER_MODEL_LOADED;
    }

    private static String parameter(Request request, String name) {
        return request.getParameter(name).get(0);
    }
}
