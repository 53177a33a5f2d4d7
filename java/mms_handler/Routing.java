package mms_handler;

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
        GetEndpoint.send(response, 200, "text/plain", Router.inFlight());
    }
}
