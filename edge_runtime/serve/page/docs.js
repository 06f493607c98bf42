// The OpenAPI document as a page: what each path takes and gives.

const main = document.getElementById("paths");

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolved(schema, spec) {
  const name = schema?.$ref?.split("/").pop();
  return name ? spec.components.schemas[name] : (schema ?? {});
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items ?? {})}`;
  if (schema.const !== undefined) return String(schema.const);
  if (schema.enum) return schema.enum.join(" or ");
  return schema.format === "binary" ? "file" : (schema.type ?? "anything");
}

function fields(schema, spec) {
  const { properties = {}, required = [] } = resolved(schema, spec);
  const rows = Object.entries(properties).map(([name, field]) => {
    const words = [typeOf(field), required.includes(name) ? "required" : null, field.description].filter(Boolean);
    return element("li", null, element("code", name), ` – ${words.join(", ")}`);
  });
  return element("ul", null, ...rows);
}

function operation(path, method, described, spec) {
  const section = element("section", null, element("h2", `${method.toUpperCase()} ${path}`), element("p", described.description));
  for (const [type, body] of Object.entries(described.requestBody?.content ?? {})) {
    section.append(element("h3", `Takes ${type}`), fields(body.schema, spec));
  }
  for (const [status, reply] of Object.entries(described.responses)) {
    const schema = reply.content?.["application/json"]?.schema;
    section.append(element("h3", `${status}: ${reply.description}`));
    if (schema && status.startsWith("2")) section.append(fields(schema, spec));
  }
  return section;
}

const spec = await (await fetch("/openapi.json")).json();
const sections = Object.entries(spec.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, described]) => operation(path, method, described, spec)),
);
main.replaceChildren(element("p", spec.info.description), ...sections);
