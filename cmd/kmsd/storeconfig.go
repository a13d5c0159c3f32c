package main

import (
	"os"

	"github.com/keyholt/keyholt/kms/keystore"
)

// maxDSN is the most bytes that a DSN file may have.
const maxDSN = 4096

// check adds the problems that can be seen in the configuration of the store alone.
func (c *storeConfig) check(f *yamlFile) {
	switch c.Driver {
	case driverSQLite:
		if c.DSNFile != "" {
			f.problem("store.dsn_file", "would be ignored: the DSN of %s is the path of a file; it goes into store.dsn", c.Driver)
		}
	case driverPostgres:
		switch {
		case c.DSN == "" && c.DSNFile == "":
			f.problem("store.dsn", "is missing, as is store.dsn_file, and systemd hands over no credential named dsn")
		case c.DSN != "" && c.DSNFile != "":
			f.problem("store.dsn_file", "store.dsn is set too; which is meant?")
		case c.DSN != "":
			c.checkDSN(f, "store.dsn", c.DSN)
		}
	default:
		f.problem("store.driver", "there is no driver %q; the drivers are: %s, %s", c.Driver, driverSQLite, driverPostgres)
	}
}

// checkDSN reports what is wrong with the DSN, of which no part is shown.
func (c *storeConfig) checkDSN(f *yamlFile, key, dsn string) {
	password, err := keystore.CheckDSN(c.Driver, dsn)
	if err != nil {
		f.problem(key, "%v", err)
		return
	}
	if !password || key != "store.dsn" {
		return
	}
	if info, err := os.Stat(f.name); err == nil && info.Mode().Perm()&0o077 != 0 {
		f.problem(key, "has a password, and this file has mode %04o: put the DSN into a file for store.dsn_file, "+
			"or the password into a passfile", info.Mode().Perm())
	}
}

// verify checks the file that holds the DSN.
func (c *storeConfig) verify(f *yamlFile) {
	if c.Driver != driverPostgres || c.DSNFile == "" || c.DSN != "" {
		return
	}
	dsn, err := readSecret("DSN", c.DSNFile, maxDSN)
	if err != nil {
		f.problem("store.dsn_file", "%v", err)
		return
	}
	c.checkDSN(f, "store.dsn_file", string(dsn))
}

// sqlitePath is the path of the database file; empty for another driver.
func (c *storeConfig) sqlitePath() string {
	if c.Driver != driverSQLite {
		return ""
	}
	return c.DSN
}

// keystore is the configuration in the words of the store's package.
func (c *storeConfig) keystore() (keystore.Config, error) {
	if c.Driver != driverPostgres || c.DSNFile == "" {
		return keystore.Config{Driver: c.Driver, DSN: c.DSN}, nil
	}
	dsn, err := readSecret("DSN", c.DSNFile, maxDSN)
	if err != nil {
		return keystore.Config{}, err
	}
	return keystore.Config{Driver: c.Driver, DSN: string(dsn)}, nil
}
