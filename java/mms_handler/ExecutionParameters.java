package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import java.io.IOException;
import java.util.Collection;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/** /execution-parameters, which a batch transform job requests before its first record. */
@Endpoint(urlPattern = "execution-parameters", endpointType = EndpointTypes.INFERENCE)
public final class ExecutionParameters extends GetEndpoint {
    /** SageMaker's limit for the number of concurrent transforms times the payload of each. */
    private static final int LIMIT_MB = 100;

    private static final String BODY =
            "{\"MaxConcurrentTransforms\": %d, \"BatchStrategy\": \"MULTI_RECORD\","
                    + " \"MaxPayloadInMB\": %d}\n";

    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        int bytes = ConfigManager.getInstance().getMaxRequestSize();
        int payload = Math.min(LIMIT_MB, Math.max(1, bytes >> 20));
        Collection<Model> models = ModelManager.getInstance().getModels().values();
        int workers =
                models.stream()
                        .filter(model -> Routes.isServed(model.getModelName()))
                        .mapToInt(Model::getMinWorkers)
                        .sum();
        int concurrent = Math.min(Math.max(1, workers), LIMIT_MB / payload);
        send(response, 200, "application/json", String.format(BODY, concurrent, payload));
    }
}
