package mms_handler;

import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.ModelServerEndpoint;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/**
 * The supervisor's side of the table.
 *
 * <p>POST /routes?line=LINE&line=LINE... replaces it ({@link Routes#set}); when it is answered,
 * requests go by the new one. A longer table comes in several requests: all but the first have
 * append=true, all but the last have more=true. (MMS has no way to read a body.)
 *
 * <p>GET /routes has a line for each model of MMS that has requests: its name there, and how many it
 * has, those that wait for a worker among them.
 *
 * <p>GET /routes?listener=NAME has how the listener of MMS's model has ended: its exit code, or 128
 * and the number of a signal; nothing while it runs. Java reaps it, so nobody else can see it.
 */
@Endpoint(urlPattern = "routes", endpointType = EndpointTypes.MANAGEMENT)
public final class Routing extends ModelServerEndpoint {
    private static final List<String> LINES = new ArrayList<>();

    public Routing() {
        Plugin.start();
    }

    @Override
    public void doPost(Request request, Response response, Context context) throws IOException {
        synchronized (LINES) {
            if (request.getParameter("append") == null) {
                LINES.clear();
            }
            LINES.addAll(request.getParameter("line"));
            if (request.getParameter("more") == null) {
                Routes.set(LINES);
            }
        }
        GetEndpoint.send(response, 200, "text/plain", "set\n");
    }

    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        List<String> name = request.getParameter("listener");
        String text = name == null ? Router.inFlight() : exitValue(name.get(0));
        GetEndpoint.send(response, 200, "text/plain", text);
    }

    private static String exitValue(String mmsName) {
        Model model = ModelManager.getInstance().getModels().get(mmsName);
        WorkerThread listener = model == null ? null : model.getServerThread();
        Integer value = listener == null ? null : listener.getLifeCycle().getExitValue();
        return value == null ? "" : value.toString();
    }
}
