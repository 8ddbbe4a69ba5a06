//! One request that is answered: its handler and its description in one declaration, so that what is served is what is
//! described. Parameters are checked before the handler runs.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use serde_json::{Map, Value, json};

use super::ApiContext;
use super::described::{Components, Described};
use super::format::{CSV_TYPE, EVENTS_TYPE, JSON_TYPE, LINES_TYPE};
use super::incomplete::{INCOMPLETE, described_header};
use super::parameters::{Asked, Parameter};
use super::problem::{PROBLEM_TYPE, ProblemDocument};

type Schema = fn(&mut Components) -> Value;
type Parameters = &'static [&'static Parameter];

/// One request.
pub struct Operation {
    method: &'static str,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    about: &'static str,
    parameters: Parameters,
    in_path: Parameters,
    in_header: Parameters,
    required: &'static [&'static str],
    body: Option<Schema>,
    answers: Vec<Answer>,
    problems: &'static [u16],
    is_open: bool,
    reads_store: bool,
    handler: MethodRouter<Arc<ApiContext>>,
}

/// One kind of answer.
pub struct Answer {
    status: u16,
    about: &'static str,
    content: &'static str,
    schema: Schema,
}

impl Answer {
    /// JSON of this type.
    #[must_use]
    pub fn json<T: Described>(about: &'static str) -> Self {
        Self::of(JSON_TYPE, about, T::schema)
    }

    /// Lines of JSON, each of this type. OpenAPI has no words for lines, so the schema is that of text.
    #[must_use]
    pub fn lines(about: &'static str) -> Self {
        Self::of(LINES_TYPE, about, |_| json!({ "type": "string" }))
    }

    /// CSV.
    #[must_use]
    pub fn csv(about: &'static str) -> Self {
        Self::of(CSV_TYPE, about, |_| json!({ "type": "string" }))
    }

    /// Text of this media type.
    #[must_use]
    pub fn text(content: &'static str, about: &'static str) -> Self {
        Self::of(content, about, |_| json!({ "type": "string" }))
    }

    /// Server-sent events; the schema is that of one.
    #[must_use]
    pub fn events(about: &'static str) -> Self {
        Self::of(EVENTS_TYPE, about, |_| {
            let text = json!({ "type": "string" });
            let fields = ["event", "data", "id", "retry"];
            let properties: Map<_, _> = fields
                .iter()
                .map(|field| ((*field).to_owned(), text.clone()))
                .collect();
            json!({ "type": "object", "properties": properties })
        })
    }

    fn of(content: &'static str, about: &'static str, schema: Schema) -> Self {
        Self {
            status: 200,
            about,
            content,
            schema,
        }
    }

    /// With another status than 200.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// Problems of a request that asks the store: those of every request, time and memory, and failures.
pub const QUERY_PROBLEMS: &[u16] = &[408, 422, 500];
/// The same, where the answer's form can be chosen.
pub const ROWS_PROBLEMS: &[u16] = &[406, 408, 422, 500];

impl Operation {
    /// `GET`.
    pub fn get<H, T>(path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<ApiContext>>,
        T: 'static,
    {
        Self::new("get", path, get(handler))
    }

    /// `POST` with a JSON body of this type.
    pub fn post<B: Described, H, T>(path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<ApiContext>>,
        T: 'static,
    {
        let operation = Self::new("post", path, post(handler));
        Self {
            body: Some(B::schema),
            ..operation
        }
    }

    fn new(method: &'static str, path: &'static str, handler: MethodRouter<Arc<ApiContext>>) -> Self {
        Self {
            method,
            path,
            tag: "collector",
            summary: "",
            about: "",
            parameters: &[],
            in_path: &[],
            in_header: &[],
            required: &[],
            body: None,
            answers: Vec::new(),
            problems: &[],
            is_open: false,
            reads_store: false,
            handler,
        }
    }

    /// Under which heading, what it does in a line, and what else there is to know of it.
    #[must_use]
    pub const fn about(mut self, tag: &'static str, summary: &'static str, about: &'static str) -> Self {
        (self.tag, self.summary, self.about) = (tag, summary, about);
        self
    }

    /// What it takes in the URL; the handler finds them checked as `Extension<Asked>`.
    #[must_use]
    pub const fn parameters(mut self, parameters: Parameters) -> Self {
        self.parameters = parameters;
        self
    }

    /// What its path holds in braces. Described only: the handler checks it.
    #[must_use]
    pub const fn in_path(mut self, parameters: Parameters) -> Self {
        self.in_path = parameters;
        self
    }

    /// Headers that it minds. Described only: the handler checks them.
    #[must_use]
    pub const fn in_header(mut self, parameters: Parameters) -> Self {
        self.in_header = parameters;
        self
    }

    /// Parameters that may not be left out. Described only: the handler says what they are for.
    #[must_use]
    pub const fn required(mut self, names: &'static [&'static str]) -> Self {
        self.required = names;
        self
    }

    /// What it answers. Several of one status are forms of the same.
    #[must_use]
    pub fn answers(mut self, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.answers.extend(answers);
        self
    }

    /// Statuses of problems beside those that every request may have.
    #[must_use]
    pub const fn problems(mut self, statuses: &'static [u16]) -> Self {
        self.problems = statuses;
        self
    }

    /// Made of rows of the store: the answer may be incomplete, and says so.
    #[must_use]
    pub const fn reads_store(mut self) -> Self {
        self.reads_store = true;
        self
    }

    /// Answered to everybody: for supervisors.
    #[must_use]
    pub const fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Is it answered to everybody?
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// The route.
    pub fn route(
        self,
        context: &Arc<ApiContext>,
        router: Router<Arc<ApiContext>>,
    ) -> Router<Arc<ApiContext>> {
        let known = self.parameters;
        let check = move |State(context): State<Arc<ApiContext>>, request: Request, next: Next| {
            read_parameters(known, context, request, next)
        };
        let checked = middleware::from_fn_with_state(Arc::clone(context), check);
        router.route(self.path, self.handler.route_layer(checked))
    }

    /// Path, method and description.
    #[must_use]
    pub fn describe(
        &self,
        components: &mut Components,
        needs_token: bool,
    ) -> (&'static str, &'static str, Value) {
        let named = self.path.trim_start_matches("/api/v1/").trim_start_matches('/');
        let in_path = self.in_path.iter().map(|parameter| {
            let mut described = parameter.describe();
            described["in"] = json!("path");
            described["required"] = json!(true);
            described
        });
        let in_query = self.parameters.iter().map(|parameter| {
            let mut described = parameter.describe();
            described["required"] = json!(self.required.contains(&parameter.name));
            described
        });
        let in_header = self.in_header.iter().map(|parameter| {
            let mut described = parameter.describe();
            described["in"] = json!("header");
            described
        });
        let mut described = json!({
            "operationId": format!("{}_{}", self.method, named.replace(['/', '.', '{', '}', '-'], "_")),
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.about,
            "parameters": in_path.chain(in_query).chain(in_header).collect::<Vec<_>>(),
            "responses": self.responses(components, needs_token),
        });
        if let Some(body) = self.body {
            described["requestBody"] = json!({
                "required": true,
                "content": { JSON_TYPE: { "schema": body(components) } },
            });
        }
        if needs_token && !self.is_open {
            described["security"] = json!([{ "token": [] }]);
        }
        (self.path, self.method, described)
    }

    fn statuses(&self, needs_token: bool) -> Vec<u16> {
        // 400: unknown parameters are refused everywhere.
        let mut statuses = vec![400];
        if !self.is_open {
            statuses.push(if needs_token { 401 } else { 421 });
        }
        if self.body.is_some() {
            statuses.extend([413, 415]);
        }
        statuses.extend(self.problems);
        statuses.sort_unstable();
        statuses
    }

    fn responses(&self, components: &mut Components, needs_token: bool) -> Value {
        let mut responses: Map<String, Value> = Map::new();
        for answer in &self.answers {
            let response = responses
                .entry(answer.status.to_string())
                .or_insert_with(|| json!({ "description": answer.about, "content": {} }));
            response["content"][answer.content] = json!({ "schema": (answer.schema)(components) });
            if self.reads_store {
                response["headers"][INCOMPLETE] = described_header();
            }
        }
        for status in self.statuses(needs_token) {
            let problem = json!({ "schema": ProblemDocument::schema(components) });
            let response = responses
                .entry(status.to_string())
                .or_insert_with(|| json!({ "description": explanation(status), "content": {} }));
            response["content"][PROBLEM_TYPE] = problem;
        }
        Value::Object(responses)
    }
}

/// What a status means here.
const fn explanation(status: u16) -> &'static str {
    match status {
        400 => "The request can't be understood; `detail` says what to correct.",
        401 => "A token for people is needed, and there is none that is valid.",
        404 => "There is no such thing.",
        406 => "None of the forms that `Accept` allows is there.",
        408 => "The query was stopped after its time limit.",
        409 => "Refused as things are.",
        413 => "The body is too large.",
        415 => "The body has to come as application/json.",
        421 => "Without a token only requests to localhost are answered.",
        422 => "Understood, and can't be answered: a limit, or a contradiction in the request.",
        500 => "Something of the store could not be read.",
        503 => "Not now: too many at once, or the disk refuses.",
        _ => "A problem.",
    }
}

async fn read_parameters(
    known: Parameters,
    context: Arc<ApiContext>,
    mut request: Request,
    next: Next,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    match Asked::read(query, known, context.time.now_ns()) {
        Ok(asked) => {
            request.extensions_mut().insert(asked);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The whole description, OpenAPI 3.1.
#[must_use]
pub fn document(operations: &[Operation], needs_token: bool) -> Value {
    let (mut paths, mut components) = (Map::new(), Components::default());
    for operation in operations {
        let (path, method, described) = operation.describe(&mut components, needs_token);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "EdgeLogger collector",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Logs, metrics and their ledger. Errors are problem documents (RFC 9457) with a stable `code`.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": components.0,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "`edgelogger-collector token create --audience people`. Needed where the API listens away from the loopback interface, or `token = true` stands in [api].",
                },
            },
        },
    })
}

/// `GET /api/v1/openapi.json`.
pub fn openapi() -> Operation {
    Operation::get(
        "/api/v1/openapi.json",
        |Extension(Document(text)): Extension<Document>| async move {
            ([(axum::http::header::CONTENT_TYPE, JSON_TYPE)], text.to_string())
        },
    )
    .about(
        "collector",
        "This description",
        "The API's description (OpenAPI 3.1), as it is served here.",
    )
    .answers([Answer::json::<Value>("The description.")])
}

/// The description as it is sent.
#[derive(Debug, Clone)]
pub struct Document(pub Arc<str>);
