"""Names of span attributes, in one place because the upstream `gen_ai.*` names still change."""

from __future__ import annotations

DJP_RUN_ID = "djp.run_id"
DJP_TENANT = "djp.tenant"
DJP_STAGE = "djp.stage"
DJP_ROUND = "djp.round"
DJP_COST_NANO_USD = "djp.cost_nano_usd"
DJP_ERROR_REASON = "djp.error_reason"
DJP_CALL_ATTEMPT = "djp.call.attempt"
DJP_USAGE_UNKNOWN = "djp.call.usage_unknown"

GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature"
GEN_AI_REQUEST_SEED = "gen_ai.request.seed"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

RPC_SYSTEM = "rpc.system"
RPC_SERVICE = "rpc.service"
RPC_METHOD = "rpc.method"
RPC_GRPC_STATUS_CODE = "rpc.grpc.status_code"
SERVICE_NAME = "service.name"
