"""The smallest workbooks, by hand: no package that writes them is needed."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Rows = Sequence[Sequence[object]]

_XLSX = "http://schemas.openxmlformats.org"
_ODS = "urn:oasis:names:tc:opendocument:xmlns"


def _zipped(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def xlsx(sheets: Mapping[str, Rows]) -> bytes:
    """Return a workbook; numbers are numbers, other cells texts, and None an empty cell."""

    def cell(row: int, column: int, value: object) -> str:
        place = f'r="{chr(65 + column)}{row}"'
        if value is None:
            return ""
        if isinstance(value, (int, float)):
            return f"<c {place}><v>{value}</v></c>"
        return f'<c {place} t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'

    def sheet(rows: Rows) -> str:
        lines = "".join(
            f'<row r="{i}">{"".join(cell(i, j, value) for j, value in enumerate(row))}</row>'
            for i, row in enumerate(rows, start=1)
        )
        main = f"{_XLSX}/spreadsheetml/2006/main"
        return f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>'

    relation = f"{_XLSX}/officeDocument/2006/relationships"
    package = f"{_XLSX}/package/2006"
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{i}" r:id="r{i}"/>'
        for i, name in enumerate(sheets, start=1)
    )
    links = "".join(
        f'<Relationship Id="r{i}" Type="{relation}/worksheet" Target="worksheets/s{i}.xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    parts = "".join(
        f'<Override PartName="/xl/worksheets/s{i}.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    return _zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default '
            'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships'
            '+xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxml'
            f'formats-officedocument.spreadsheetml.sheet.main+xml"/>{parts}</Types>',
            "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r" '
            f'Type="{relation}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{_XLSX}/spreadsheetml/2006/main" '
            f'xmlns:r="{relation}"><sheets>{listed}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
            f"{links}</Relationships>",
            **{
                f"xl/worksheets/s{i}.xml": sheet(rows)
                for i, rows in enumerate(sheets.values(), start=1)
            },
        }
    )


def ods(sheets: Mapping[str, Rows]) -> bytes:
    """Return a workbook of LibreOffice, with cells as in `xlsx`."""

    def cell(value: object) -> str:
        if value is None:
            return "<table:table-cell/>"
        kind = "string"
        number = ""
        if isinstance(value, (int, float)):
            kind, number = "float", f' office:value="{value}"'
        text = f"<text:p>{escape(str(value))}</text:p>"
        return f'<table:table-cell office:value-type="{kind}"{number}>{text}</table:table-cell>'

    tables = "".join(
        f'<table:table table:name="{escape(name)}">'
        + "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
        + "</table:table>"
        for name, rows in sheets.items()
    )
    spaces = " ".join(f'xmlns:{s}="{_ODS}:{s}:1.0"' for s in ("office", "table", "text"))
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    return _zipped(
        {
            "mimetype": kind,
            "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{_ODS}:manifest:1.0">'
            f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
            "</manifest:manifest>",
            "content.xml": f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f"{tables}</office:spreadsheet></office:body></office:document-content>",
        }
    )
