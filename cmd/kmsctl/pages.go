package main

import "errors"

// pageSize is how many resources are asked for at once.
const pageSize = 1000

// pages collects a list page by page.
func pages[M any](page func(token string) ([]M, string, error)) ([]M, error) {
	var all []M
	token := ""
	for {
		some, next, err := page(token)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if next == "" {
			return all, nil
		}
		if next == token {
			return nil, errors.New("the service returned the same page twice")
		}
		token = next
	}
}
