"""PDF manuals: `pages` gets text with its geometry out of pdfium, `tables` finds tables, `layout` orders a page, `outline` makes sections, `worker` confines it all."""
