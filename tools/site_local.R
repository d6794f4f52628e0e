# Makes the pages of the site their own: their scripts, styles and fonts come from the
# site, so that it works without a network and from a folder. pkgdown before 2.1 takes
# some from other servers, each with the hash by which a browser knows the right file;
# the same files are in these packages of npm's, and are found there by their hash.
# `Rscript tools/site_local.R FOLDER`; it fails if something is not there then.

npm_packages <- c(
  "@fortawesome/fontawesome-free@5.12.1", "autocomplete.js@0.38.0", "clipboard@2.0.6",
  "fuse.js@6.4.6", "headroom.js@0.11.0", "mark.js@8.11.1"
)

pages_of <- function(site) list.files(site, "[.]html$", recursive = TRUE)

read_text <- function(file) {
  paste(readLines(file, encoding = "UTF-8", warn = FALSE), collapse = "\n")
}

# `rewrite` gets the text of a page, and the way from it to the root of the site.
rewrite_pages <- function(site, rewrite) {
  for (page in pages_of(site)) {
    file <- file.path(site, page)
    root <- strrep("../", lengths(regmatches(page, gregexpr("/", page))))
    writeLines(rewrite(read_text(file), root), file, useBytes = TRUE)
  }
}

make_local <- function(site) {
  rewrite_pages(site, function(text, root) without_unused(text))
  wanted <- '"https://[^"]+" integrity="[^"]+" crossorigin="anonymous"'
  text <- vapply(file.path(site, pages_of(site)), read_text, "")
  references <- unique(unlist(regmatches(text, gregexpr(wanted, text))))
  if (length(references) == 0) {
    return(invisible())
  }
  files <- bring_files(site, references)
  rewrite_pages(site, function(text, root) {
    for (i in seq_along(references)) {
      own <- sprintf('"%s%s"', root, files[i])
      text <- gsub(references[i], own, text, fixed = TRUE)
    }
    text
  })
}

# There are no formulas on these pages, and no one comes with an Internet Explorer.
without_unused <- function(text) {
  formula <- grepl('class="math', text)
  stopifnot("a page has a formula, and MathJax is not here" = !formula)
  text <- gsub("<!-- mathjax -->(<script[^>]*mathjax[^>]*></script>\\s*)*", "", text,
    ignore.case = TRUE
  )
  gsub("(?s)<!--\\[if lt IE 9\\]>.*?<!\\[endif\\]-->", "", text, perl = TRUE)
}

# Copies the files to the site, and returns where they are there.
bring_files <- function(site, references) {
  modules <- npm_modules()
  found <- list.files(modules, "[.](js|css)$", recursive = TRUE)
  hashes <- c(
    vapply(file.path(modules, found), hash, "", "sha256"),
    vapply(file.path(modules, found), hash, "", "sha512")
  )
  wanted <- sub('.*integrity="([^"]+)".*', "\\1", references)
  files <- c(found, found)[match(wanted, hashes)]
  # This one pkgdown has itself, for its older pages.
  toc <- grepl("bootstrap-toc", references)
  files[toc] <- "bootstrap-toc/bootstrap-toc.js"
  if (anyNA(files)) {
    stop(
      "no package of npm's that is asked for has this file:\n",
      paste(references[is.na(files)], collapse = "\n")
    )
  }
  fonts <- grep("/webfonts/", list.files(modules, recursive = TRUE), value = TRUE)
  for (file in unique(c(files[!toc], fonts))) {
    copy_to(site, file.path(modules, file), file)
  }
  if (any(toc)) {
    own <- system.file("BS3/assets/bootstrap-toc.js", package = "pkgdown")
    copy_to(site, own, files[toc][1])
  }
  file.path("deps", files)
}

npm_modules <- function() {
  folder <- tempfile("npm")
  dir.create(folder)
  status <- system2("npm", c(
    "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund",
    "--prefer-offline", "--loglevel=error", npm_packages
  ), stdout = FALSE)
  stopifnot("npm did not bring the scripts of the pages" = status == 0)
  file.path(folder, "node_modules")
}

hash <- function(file, kind) {
  digest <- getExportedValue("openssl", kind)(readBin(file, "raw", file.size(file)))
  paste0(kind, "-", openssl::base64_encode(digest))
}

copy_to <- function(site, from, file) {
  to <- file.path(site, "deps", file)
  dir.create(dirname(to), recursive = TRUE, showWarnings = FALSE)
  stopifnot(file.copy(from, to, overwrite = TRUE))
}

# A page that is opened from a folder may not read search.json: the same as a script.
write_search_script <- function(site) {
  index <- read_text(file.path(site, "search.json"))
  file <- file.path(site, "search.js")
  writeLines(paste0("window.searchIndex = ", index, ";"), file, useBytes = TRUE)
}

# --- The check ------------------------------------------------------------------------

# Every script, style, font and image of every page is in the site.
check_local <- function(site) {
  pages <- file.path(site, pages_of(site))
  styles <- list.files(site, "[.]css$", recursive = TRUE, full.names = TRUE)
  missing <- unlist(c(
    lapply(pages, function(page) not_here(page, loaded_by_page(page))),
    lapply(styles, function(style) not_here(style, loaded_by_style(read_text(style))))
  ))
  if (length(missing) > 0) {
    stop("these are not in the site:\n", paste(missing, collapse = "\n"))
  }
}

loaded_by_page <- function(page) {
  html <- xml2::read_html(page)
  values <- function(path) xml2::xml_text(xml2::xml_find_all(html, path))
  links <- "//link[@rel='stylesheet' or @rel='icon' or @rel='preload']/@href"
  styles <- paste(values("//style"), collapse = "\n")
  loaded <- c(values("//script/@src"), values(links), values("//img/@src"))
  c(loaded, loaded_by_style(styles))
}

loaded_by_style <- function(text) {
  urls <- unlist(regmatches(text, gregexpr("url\\([^)]+\\)|@import[^;]+;", text)))
  gsub("^@import *|^url\\(|[\"')]|;$", "", urls)
}

not_here <- function(from, references) {
  references <- unique(references[!grepl("^(data:|#)", references)])
  outside <- grepl("^([a-z]+:)?//|^[a-z]+:", references)
  file <- file.path(dirname(from), sub("[?#].*", "", references))
  missing <- references[outside | !file.exists(file)]
  if (length(missing) > 0) paste0(from, ": ", missing)
}

site <- commandArgs(trailingOnly = TRUE)
make_local(site)
write_search_script(site)
check_local(site)
